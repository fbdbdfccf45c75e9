"""`duxnet nodes list --min-uptime-probability`: a filter of files and, in bounded steps, over the network."""

from __future__ import annotations

import json
from pathlib import Path

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.support.processes import duxnet
from tests.system.coordinator.test_identity import Signer


def test_the_list_keeps_who_will_probably_stay(tmp_path: Path) -> None:
    path = str(tmp_path / "nodes.json")
    with NodeRegistry(persistence_path=path) as registry:
        registry.register_node(Node("192.0.2.1", id="worker"))
        likely = registry.expected_uptime("worker", 6.0)
    for least, expected in ((likely - 0.01, ["worker"]), (likely + 0.01, [])):
        asked = ("nodes", "list", "--registry", path, "--min-uptime-probability", f"{least:.4f}", "--format", "json")
        assert [node["id"] for node in json.loads(duxnet(*asked).stdout)["nodes"]] == expected


def test_so_it_does_over_the_network(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        Signer(running).register()
        for least, expected in (("0.01", 1), ("0.999999", 0)):
            asked = ("nodes", "list", "--registry", running.address, "--min-uptime-probability", least)
            answer = duxnet(*asked, "--format", "json")
            assert len(json.loads(answer.stdout)["nodes"]) == expected, answer.stderr
        path = f"/v1/nodes/{Signer(running).node_id}/explain?min_uptime_probability=0.5"
        assert running.call("GET", path)[0] == 404
        (node,) = running.call("GET", "/v1/nodes")[2]["nodes"]
        told = running.call("GET", f"/v1/nodes/{node['id']}/explain?min_uptime_probability=0.999999")[2]
        assert [item["condition"] for item in told["failing"]] == ["min_uptime_probability"]
        assert running.call("GET", "/v1/count?min_uptime_probability=0.5")[0] == 422
