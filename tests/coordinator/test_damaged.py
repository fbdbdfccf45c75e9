"""One damaged record in the coordinator's file: lists go on without that node, and the operator is told once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from duxnet.coordinator import node_search as damaged_module
from duxnet.coordinator.node_search import Damaged
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.models.node import Node
from registry_core.query.node_query import NodeQuery
from registry_core.remote import RemoteRegistry
from tests.agent.running import duxnet, until
from tests.coordinator.running import Running


def filled(path: Path, count: int) -> None:
    with NodeRegistry(path) as registry, registry.batch():
        for number in range(count):
            registry.register_node(Node("192.0.2.1", id=f"node-{number}", port=9100))


def damage(path: Path, *node_ids: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for node_id in node_ids:
            changed = file.execute("UPDATE nodes SET record = zeroblob(200) WHERE id = ?", [node_id])
            assert changed.rowcount == 1


def test_every_list_goes_on_without_a_damaged_node_and_tells(tmp_path: Path) -> None:
    path = tmp_path / "state" / "nodes.db"
    filled(path, 4)
    damage(path, "node-0", "node-2")
    with Running(tmp_path / "state", shortest_interval_seconds=0.2, show_addresses=True) as running:
        for _ in range(3):
            page = running.call("GET", "/v1/nodes?limit=1")[2]
            assert [node["id"] for node in page["nodes"]] == ["node-1"]  # a page is full all the same
        page = running.call("GET", f"/v1/nodes?limit=5&after={page['next']}")[2]
        assert [node["id"] for node in page["nodes"]] == ["node-3"]
        assert (page["next"], page["damaged"]) == (None, 2)
        stay = running.call("GET", "/v1/nodes?min_uptime_probability=0.001")[2]
        assert [node["id"] for node in stay["nodes"]] == ["node-1", "node-3"]
        assert running.call("GET", "/v1/count")[2] == {"count": 2}
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")
        assert len(running.call("GET", "/v1/sd/prometheus")[2]) == 2
        for asked in ("/v1/nodes/node-0", "/v1/nodes/node-0/explain", "/v1/nodes/node-0/reputation"):
            status, _, problem = running.call("GET", asked)
            assert (status, problem["type"]) == (503, "urn:duxnet:problem:store-failed")
            assert "what is kept of node 'node-0' is damaged" in problem["detail"]
            assert "nodes.db" not in str(problem)  # where it lies is nobody's business
        assert "duxnet_damaged_records 2\n" in running.call("GET", "/metrics")[2]
        assert 'duxnet_nodes{state="registered"} 4' in running.call("GET", "/metrics")[2]
        with RemoteRegistry(running.address) as remote:
            page = remote.find_nodes(NodeQuery())
            assert [node.id for node in page.nodes] == ["node-1", "node-3"]
            assert page.damaged == 2
            with pytest.raises(StoreError, match="node-0"):
                remote.get_node("node-0")
        listed = duxnet("nodes", "list", "--registry", running.address)
        assert listed.returncode == 0
        assert "2 left out" in listed.stderr
        for node_id in ("node-0", "node-2"):
            assert running.output().count(f"{node_id} is left out of lists") == 1
        assert "duxnet registry verify" in running.output()
        assert "Traceback" not in running.output()


def test_a_sound_file_leaves_nothing_out(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        assert running.call("GET", "/v1/nodes")[2]["damaged"] == 0
        assert "duxnet_damaged_records 0\n" in running.call("GET", "/metrics")[2]


def test_one_question_finds_a_few_the_next_goes_on_and_of_a_ruin_the_lists_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damaged_module, "FOUND_AT_ONCE", 3)
    monkeypatch.setattr(damaged_module, "MOST_LEFT_OUT", 6)
    path = tmp_path / "nodes.db"
    filled(path, 10)
    damage(path, *(f"node-{number}" for number in range(5)))
    with NodeRegistry(path) as registry:
        found = Damaged(registry)
        with pytest.raises(DamagedStoreError):
            found.find(NodeQuery())
        assert len(found) == 3
        assert [node.id for node in found.find(NodeQuery(exclude=["node-9"])).nodes] == [
            f"node-{n}" for n in (5, 6, 7, 8)
        ]
        assert len(found) == 5
        assert found.find(NodeQuery(limit=0)).nodes == []
    damage(path, "node-5", "node-6")
    with NodeRegistry(path) as registry:
        ruin = Damaged(registry)
        for _ in range(4):
            with pytest.raises(DamagedStoreError):
                ruin.find(NodeQuery())
        assert len(ruin) == 6
