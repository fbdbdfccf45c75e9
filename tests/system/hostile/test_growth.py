"""How far strangers make a registry grow, and who makes room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from duxnet.coordinator.admission.growth import MOST_NETWORKS, Growth
from duxnet.coordinator.errors import Refused
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer, kind


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def registered(registry: NodeRegistry, node_id: str, peer: str, state: Optional[dict[str, Any]] = None) -> str:
    host_state = {"generation": 1, "peer": peer} if state is None else state
    registry.host.register(Node("192.0.2.1", id=node_id), interval_seconds=15.0, state=host_state)
    return node_id


def growth(
    registry: NodeRegistry, most_nodes: int = 0, new_per_minute: int = 0, clock: Optional[Clock] = None
) -> Growth:
    return Growth(registry, most_nodes, new_per_minute, clock or Clock())


@pytest.fixture
def registry() -> Iterator[NodeRegistry]:
    with NodeRegistry() as opened:
        yield opened


def test_while_there_is_room_nobody_goes(registry: NodeRegistry) -> None:
    registered(registry, "a", "203.0.113.1")
    assert growth(registry, 2).make_room(0) is None
    assert growth(registry, 0).make_room(10**9) is None
    assert growth(registry, 2).make_room(1) is not None  # one more is in this commit


def test_the_newest_goes_that_never_worked_of_the_network_with_most_of_them(registry: NodeRegistry) -> None:
    for number in range(3):
        registered(registry, f"flood{number}", f"203.0.113.{number}")
    registered(registry, "honest", "198.51.100.1")
    limit = growth(registry, 4)
    gone = []
    for _ in range(3):
        newcomer = limit.make_room(0)
        assert newcomer is not None
        registry.deregister_node(newcomer.node_id)
        gone.append(newcomer.node_id)
        registered(registry, f"again{len(gone)}", "203.0.113.9")
        limit.came(f"again{len(gone)}", "203.0.113.9")
    assert gone == ["flood2", "again1", "again2"]
    assert registry.get_node("honest") is not None


def test_who_worked_was_decided_on_or_was_put_there_by_an_operator_stays(registry: NodeRegistry) -> None:
    for name in ("worked", "failed", "approved", "banned", "suspended", "by-operator"):
        registered(registry, name, "203.0.113.1", {"managed_by": "operator"} if name == "by-operator" else None)
    registry.update_node_reputation("worked", True)
    registry.update_node_reputation("failed", False)
    registry.admin.approve("approved")
    registry.admin.ban("banned", reason="x")
    registry.admin.suspend("suspended", reason="x")
    limit, newcomer = growth(registry, 6), None
    newcomer = limit.make_room(0)
    assert newcomer is not None
    assert newcomer.node_id == "failed"
    registry.deregister_node("failed")
    with pytest.raises(Refused, match="nodes_at_most") as refused:
        limit.make_room(1)
    assert refused.value.retry_after_seconds is not None


def test_who_worked_after_it_was_looked_at_stays(registry: NodeRegistry) -> None:
    for name in ("a", "b", "c"):
        registered(registry, name, "203.0.113.1")
    limit = growth(registry, 3)
    assert limit.make_room(0) is not None  # c
    registry.update_node_reputation("b", True)
    newcomer = limit.make_room(0)
    assert newcomer is not None
    assert newcomer.node_id == "a"


def test_new_nodes_of_one_network_come_at_a_rate_and_others_at_theirs(registry: NodeRegistry) -> None:
    clock = Clock()
    limit = growth(registry, new_per_minute=60, clock=clock)
    for number in range(60):
        limit.take(f"203.0.113.{number}")
    with pytest.raises(Refused) as refused:
        limit.take("203.0.113.200")
    assert refused.value.kind == "too-many-requests"
    assert refused.value.retry_after_seconds is not None
    assert 0 < refused.value.retry_after_seconds <= 11
    limit.take("198.51.100.1")
    for number in range(60):
        limit.take(f"2001:db8:1:{number:x}::1")
    with pytest.raises(Refused):
        limit.take("2001:db8:1:ffff::1")  # of the same /48
    clock.now += 1.0
    limit.take("203.0.113.7")
    with pytest.raises(Refused):
        limit.take("203.0.113.8")


def test_loopback_and_a_local_socket_have_no_rate(registry: NodeRegistry) -> None:
    limit = growth(registry, new_per_minute=1)
    for peer in ("127.0.0.1", "127.9.9.9", "::1", None, ""):
        for _ in range(5):
            limit.take(peer)


def test_what_is_remembered_of_networks_is_bounded(registry: NodeRegistry) -> None:
    limit = growth(registry, new_per_minute=2)
    for number in range(MOST_NETWORKS + 100):
        limit.take(f"{1 + number // 65536 % 100}.{number // 256 % 256}.{number % 256}.1")
    assert len(limit._left) == MOST_NETWORKS


def test_a_full_coordinator_takes_newcomers_and_keeps_who_was_decided_on(tmp_path: Path) -> None:
    with Running(tmp_path / "state", nodes_at_most=3) as running:
        kept, *others = (Signer(running) for _ in range(5))
        assert kept.register(1)[0] == 200
        decided = {"admission": "approved"}
        assert running.call("PUT", f"/v1/nodes/{kept.node_id}/admission", decided, running.operator_token())[0] == 200
        sessions = [signer.register(1)[2]["session"] for signer in others]
        assert running.call("GET", "/v1/count")[2] == {"count": 3}
        ids = {node["id"] for node in running.call("GET", "/v1/nodes")[2]["nodes"]}
        assert ids == {kept.node_id, others[0].node_id, others[-1].node_id}  # each newcomer replaced the newest
        gone, still = others[1], others[-1]
        beat = {"sequence": 1}
        assert kind(running.call("PUT", f"/v1/nodes/{gone.node_id}/heartbeat", beat, sessions[1])) == "unknown-node"
        assert running.call("PUT", f"/v1/nodes/{still.node_id}/heartbeat", beat, sessions[-1])[0] == 200
        assert kept.register(2)[0] == 200  # who is known needs no room
        audit = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]
        assert [line["node_id"] for line in audit if "nodes_at_most" in line.get("reason", "")] == [
            signer.node_id for signer in others[1:-1]
        ]


def test_a_flood_from_one_network_is_asked_to_come_back_and_others_are_let_in(tmp_path: Path) -> None:
    with Running(tmp_path / "state", proxies=["127.0.0.1"], join="open", new_nodes_per_minute=3) as running:

        def come(address: str) -> tuple[int, dict[str, str], Any]:
            signer = Signer(running)
            body = signer.body(1)
            return signer.send(body, {**signer.headers(body), "X-Forwarded-For": address})

        answers = [come(f"93.184.216.{number}") for number in range(5)]
        assert [answer[0] for answer in answers] == [200, 200, 200, 429, 429]
        assert kind(answers[-1]) == "too-many-requests"
        assert int(answers[-1][1]["retry-after"]) >= 1
        assert come("93.184.217.1")[0] == 200
        assert running.call("GET", "/v1/count")[2] == {"count": 4}
