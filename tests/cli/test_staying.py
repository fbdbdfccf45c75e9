"""`duxnet nodes list --min-uptime-probability`: a filter of files, refused in words over the network."""

from __future__ import annotations

import json
from pathlib import Path

from registry_core.models.node import Node
from registry_core.node_registry import NodeRegistry
from tests.agent.running import duxnet
from tests.coordinator.running import Running


def test_the_list_keeps_who_will_probably_stay(tmp_path: Path) -> None:
    path = str(tmp_path / "nodes.json")
    with NodeRegistry(persistence_path=path) as registry:
        registry.register_node(Node("192.0.2.1", id="worker"))
        likely = registry.expected_uptime("worker", 6.0)
    for least, expected in ((likely - 0.01, ["worker"]), (likely + 0.01, [])):
        asked = ("nodes", "list", "--registry", path, "--min-uptime-probability", f"{least:.4f}", "--format", "json")
        assert [node["id"] for node in json.loads(duxnet(*asked).stdout)["nodes"]] == expected


def test_over_the_network_it_is_refused_in_words(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        answer = duxnet("nodes", "list", "--registry", running.address, "--min-uptime-probability", "0.5")
    assert answer.returncode == 1
    assert "min_uptime_probability" in answer.stderr
    assert "Traceback" not in answer.stderr
