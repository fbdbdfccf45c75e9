"""One damaged record in the coordinator's file: lists go on without that node, and the operator is told once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from duxnet.coordinator import node_search as damaged_module
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.models.node import Node
from registry_core.models.status import Admission
from registry_core.query.node_query import NodeOrder, NodeQuery
from registry_core.remote import RemoteRegistry
from registry_core.testing import HandClock
from tests.support.coordinators import Running
from tests.support.processes import duxnet, until


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
            assert "the record of node 'node-0' is damaged" in problem["detail"]
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


def test_no_number_of_them_closes_a_list(tmp_path: Path) -> None:
    path = tmp_path / "state" / "nodes.db"
    filled(path, 6000)
    damage(path, *(f"node-{number}" for number in range(6000) if number not in (0, 5900)))
    with Running(tmp_path / "state", shortest_interval_seconds=0.2, show_addresses=True) as running:
        found, after, most = [], "", 0.0
        for _ in range(20):  # each answer is a success, within bounds, and goes on behind what it looked at
            begun = time.monotonic()
            status, _, page = running.call("GET", f"/v1/nodes?limit=100{after}")
            most = max(most, time.monotonic() - begun)
            assert status == 200
            found += [node["id"] for node in page["nodes"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert most < 5.0
        assert found == ["node-0", "node-5900"]
        assert running.call("GET", "/v1/nodes?only_healthy=true")[0] == 200
        assert running.call("GET", "/v1/nodes?order=random&limit=2")[0] == 200
        assert running.call("GET", "/v1/nodes?min_uptime_probability=0.001&limit=2")[0] == 200
        assert running.call("GET", "/v1/count")[2]["count"] >= 2
        until(lambda: running.call("GET", "/v1/sd/prometheus")[0] == 200, "not warming any more")
        assert len(running.call("GET", "/v1/sd/prometheus")[2]) == 2
        assert running.call("GET", "/v1/nodes")[2]["damaged"] == 5998
        assert running.call("GET", "/v1/count")[2] == {"count": 2}
        assert running.output().count("is left out of lists") == damaged_module.LOGGED_ONE_BY_ONE
        assert "more records are damaged" in running.output()


def test_an_operator_removes_bans_and_overwrites_whatever_a_record_holds(tmp_path: Path) -> None:
    path = tmp_path / "state" / "nodes.db"
    filled(path, 500)
    with NodeRegistry(path) as registry:
        registry.admin.ban("node-4", reason="cheated")
    damaged = [f"node-{number}" for number in range(6)]
    damage(path, *damaged)
    with Running(tmp_path / "state") as running:
        assert running.call("GET", "/v1/nodes")[2]["damaged"] == 6
        order = {"admission": "banned", "reason": "poison"}
        token = running.operator_token()
        status, _, shown = running.call("PUT", "/v1/nodes/node-1/admission", order, token=token)
        assert (status, shown["admission"], shown["admission_reason"]) == (200, "banned", "poison")
        assert running.call("GET", "/v1/nodes/node-1")[2]["admission"] == "banned"
        new: dict[str, Any] = {"node": {"id": "node-2", "ip_address": "192.0.2.9"}}
        assert running.call("PUT", "/v1/nodes/node-2", new, token=token)[0] == 200
        assert running.call("GET", "/v1/nodes/node-2")[2]["admission"] == "probation"
        for node_id in ("node-3", "node-4"):
            assert running.call("DELETE", f"/v1/nodes/{node_id}", token=token)[0] == 204
        for change in ("approved", "probation", "suspended"):  # what lets a node in needs its record
            status = running.call("PUT", "/v1/nodes/node-0/admission", {"admission": change}, token=token)[0]
            assert status == 503
        page = running.call("GET", "/v1/nodes?limit=1000")[2]
        assert (len(page["nodes"]), page["damaged"]) == (496, 2)
        new = {"node": {"id": "node-5", "ip_address": "192.0.2.9", "extra": {"rack": 7}}}
        assert running.call("PUT", "/v1/nodes/node-5", new, token=token)[0] == 200
        assert running.call("GET", "/v1/nodes/node-5")[2]["extra"] == {"rack": 7}
        assert running.call("DELETE", "/v1/nodes/node-0")[0] == 401
        assert running.call("PUT", "/v1/nodes/node-0/admission", order)[0] == 401
        assert "Traceback" not in running.output()
    with NodeRegistry(path) as registry:
        assert len(registry.list_nodes(exclude=["node-0"])) == 497
        registry.register_node(Node("192.0.2.1", id="node-4"))  # a ban is not washed off by damage
        node = registry.get_node("node-4")
        assert node is not None
        assert node.admission is Admission.BANNED


def test_so_does_the_embedded_registry_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 8)
    with NodeRegistry(path) as registry:
        registry.admin.suspend("node-3", reason="operator")
    damage(path, *(f"node-{number}" for number in range(6)))
    with NodeRegistry(path) as registry:
        assert registry.deregister_node("node-0")
        registry.admin.ban("node-1", reason="poison")
        banned = registry.get_node("node-1")
        assert banned is not None
        assert (banned.admission, banned.admission_reason) == (Admission.BANNED, "poison")
        with registry.batch():
            registry.register_node(Node("192.0.2.9", id="node-2", hostname="new"))
            assert registry.deregister_node("node-5")
        overwritten = registry.get_node("node-2")
        assert overwritten is not None
        assert overwritten.hostname == "new"
        registry.register_node(Node("192.0.2.9", id="node-3"))
        suspended = registry.get_node("node-3")
        assert suspended is not None
        assert suspended.admission is Admission.SUSPENDED  # since when is lost: an operator ends it
        with pytest.raises(DamagedStoreError):
            registry.list_nodes()  # who embeds it is told, unless it asks for the rest
        told: list[DamagedStoreError] = []
        page = registry.find_nodes(NodeQuery(), unreadable=told.append)
        assert sorted(node.id for node in page.nodes) == ["node-1", "node-2", "node-3", "node-6", "node-7"]
        assert [error.node_id for error in told] == ["node-4"]
    listed = duxnet("nodes", "list", "--registry", str(path))
    assert listed.returncode == 0
    assert "1 left out" in listed.stderr
    for command in ("ban", "remove"):
        done = duxnet("nodes", command, "node-4", "--registry", str(path))
        assert done.returncode == 0, done.stderr
    damage(path, "node-6")
    assert duxnet("nodes", "remove", "node-6", "--registry", str(path)).returncode == 0
    assert "left out" not in duxnet("nodes", "list", "--registry", str(path)).stderr


def test_the_index_finds_a_node_again_once_it_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    filled(path, 450)  # with bitmaps
    damage(path, *(f"node-{number}" for number in range(40)))
    ready = NodeQuery(only_healthy=True)
    with NodeRegistry(path) as registry:
        for order in ("reputation", "random", "least_loaded", "explore"):
            parse_query = NodeQuery(limit=5, order=NodeOrder(order))
            assert len(registry.find_nodes(parse_query, unreadable=lambda _error: None).nodes) == 5
        assert len(registry.find_nodes(ready, unreadable=lambda _error: None).nodes) == 410
        assert registry.host.left_out == 40
        assert registry.count_nodes() == 410
        registry.update_node_health("node-1", 1.0, 99.0, 3.0)  # its readiness changes; it stays left out
        registry.update_node_health("node-1", 1.0, 9.0, 3.0)
        assert registry.count_nodes(only_healthy=True) == 410
        registry.register_node(Node("192.0.2.1", id="node-1"))
        assert registry.count_nodes(only_healthy=True) == 411
        assert registry.deregister_node("node-2")
        assert registry.host.left_out == 38
        assert registry.count_nodes() == 411


def test_background_work_goes_on_past_a_damaged_record_and_names_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "nodes.db"
    clock = HandClock()
    with NodeRegistry(path, clock=clock) as registry:
        for number in range(4):
            registry.register_node(Node("192.0.2.1", id=f"node-{number}"))
        for number in range(4):
            registry.update_node_reputation(f"node-{number}", True, rater=f"node-{(number + 1) % 4}")
    damage(path, "node-1")
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        for _ in range(3):
            for _ in range(120):
                clock.move(30)
                for number in range(4):
                    registry.update_node_health(f"node-{number}", 0.1, 1.0, 1.0)
            while registry.host.settle_hours():
                pass
            registry.host.weigh_ratings(["node-0", "node-2"])
        assert registry.get_reputation("node-3").evidence["availability"].weight > 0.3
    assert caplog.text.count("of node node-1 cannot be written") == 1
