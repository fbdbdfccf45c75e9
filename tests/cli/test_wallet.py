"""`duxnet wallet`, on a file and on a coordinator: the message, a real signature over it, what follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import ValidationError
from registry_core.models.node import Node
from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.support.coordinators import Running
from tests.support.ethereum import Wallet
from tests.support.processes import duxnet

WALLET = Wallet(21)


def test_a_printed_message_once_signed_proves_the_wallet(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    with NodeRegistry(persistence_path=path) as registry:
        registry.register_node(Node("192.0.2.1", id="worker-1", wallet_address=WALLET.address))
    printed = duxnet("wallet", "message", "work", "--registry", str(path))
    assert printed.returncode == 0, printed.stderr
    wrong = duxnet("wallet", "attach", "work", Wallet(22).sign(printed.stdout[:-1]), "--registry", str(path))
    assert wrong.returncode == 2
    assert "signature" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    done = duxnet("wallet", "attach", "work", WALLET.sign(printed.stdout[:-1]), "--registry", str(path))
    assert done.stdout == "worker-1: wallet proven; standing probation, reputation 0.25\n", done.stderr
    assert "its wallet is proven" in duxnet("nodes", "show", "work", "--registry", str(path)).stdout


@pytest.mark.slow
def test_a_coordinator_takes_a_proof_from_its_operator_only_and_logs_it(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        options = RemoteOptions(token=running.operator_token())
        with RemoteRegistry(running.address, options=options) as registry:
            registry.register_node(Node("192.0.2.7", id="worker", wallet_address=WALLET.address))
            message = duxnet("wallet", "message", "worker", "--registry", running.address).stdout[:-1]
            refused = duxnet("wallet", "attach", "worker", WALLET.sign(message), "--registry", running.address)
            assert refused.returncode == 1
            assert "proven" not in " ".join(registry.get_reputation("worker").reasons)
            with pytest.raises(ValidationError):
                registry.admin.attach_wallet("worker", Wallet(22).sign(message))
            registry.admin.attach_wallet("worker", WALLET.sign(message))
            assert "proven" in " ".join(registry.get_reputation("worker").reasons)
    lines = (tmp_path / "state" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["node_id"] for line in lines if json.loads(line)["action"] == "wallet-proof"] == ["worker"]
