"""What a person at the desk sees of a coordinator, with and without a token."""

from __future__ import annotations

import json
from pathlib import Path

from registry_core.models.node import Node
from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.agent.running import duxnet
from tests.coordinator.running import Running


def test_without_a_token_the_list_says_that_addresses_are_hidden(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        with RemoteRegistry(running.address, options=RemoteOptions(token=running.operator_token())) as registry:
            registry.register_node(Node("192.0.2.7", hostname="worker"))
        table = duxnet("nodes", "list", "--registry", running.address)
        listed = json.loads(duxnet("nodes", "list", "--registry", running.address, "--format", "json").stdout)
    assert table.returncode == 0, table.stderr
    assert "hidden" in table.stdout
    assert "192.0.2.7" not in table.stdout
    assert listed["nodes"][0]["ip_address"] is None
