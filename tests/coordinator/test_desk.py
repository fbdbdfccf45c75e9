"""What a person at the desk sees of a coordinator, with and without a token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

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


def test_every_filter_and_the_next_page_work_over_the_network(tmp_path: Path) -> None:
    def listed(*flags: object) -> tuple[list[str], Optional[str]]:
        answer = duxnet("nodes", "list", "--registry", running.address, "--format", "json", *flags)
        assert answer.returncode == 0, answer.stderr
        plain = json.loads(answer.stdout)
        return [node["id"] for node in plain["nodes"]], plain["next"]

    with Running(tmp_path / "state") as running:
        with RemoteRegistry(running.address, options=RemoteOptions(token=running.operator_token())) as registry:
            for name, zone in (("first", "a"), ("second", "a"), ("third", "b")):
                registry.register_node(Node("192.0.2.7", id=name, tags={"zone": zone}))
        assert listed("--tag", "zone=b") == (["third"], None)
        assert listed("--exclude", "first", "--limit", 2) == (["second", "third"], None)
        assert listed("--limit", 1, "--order", "random", "--tag", "zone=b") == (["third"], None)
        found, cursor = listed("--limit", 2)
        assert found == ["first", "second"]
        assert listed("--limit", 2, "--after", cursor) == (["third"], None)
