"""What a host asks of the registry: registering on terms, pacing, holding back verdicts, counting."""

from __future__ import annotations

from datetime import datetime, timezone

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.models.node import Node
from registry_core.models.status import Admission, Liveness
from registry_core.table.node_table import PACED_AT_ONCE, PACED_REST_SECONDS


class MovedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.seconds, timezone.utc)


def liveness_of(registry: NodeRegistry, node_id: str) -> Liveness:
    node = registry.get_node(node_id)
    assert node is not None
    return node.liveness


def test_what_a_host_keeps_beside_a_node_survives_a_restart_and_never_goes_out(tmp_path) -> None:  # type: ignore[no-untyped-def]  # pytest's own type
    path = tmp_path / "nodes.json"
    with NodeRegistry(path) as registry:
        registry.host.register(Node("192.0.2.1", id="a"), interval_seconds=15.0, state={"generation": 7})
        registry.register_node(Node("192.0.2.2", id="a"))
        assert "generation" not in repr(registry.get_node("a"))
    with NodeRegistry(path) as registry:
        assert registry.host.state("a") == {"generation": 7}
        assert registry.host.state("b") is None


def test_a_node_that_must_wait_is_pending_and_not_ready() -> None:
    registry = NodeRegistry()
    registry.host.register(Node("192.0.2.1", id="a"), interval_seconds=None, state={}, pending_reason="quota")
    node = registry.get_node("a")
    assert node is not None
    assert (node.admission, node.admission_reason, node.is_ready) == (Admission.PENDING, "quota", False)


def test_silence_is_judged_by_the_pace_or_by_the_node_s_own_longer_interval() -> None:
    clock = MovedClock()
    registry = NodeRegistry(clock=clock, heartbeat_timeout_seconds=4.0)
    registry.host.register(Node("192.0.2.1", id="a"), interval_seconds=1.0, state={})
    registry.host.register(Node("192.0.2.2", id="b"), interval_seconds=100.0, state={})
    registry.host.pace(10.0)
    for seconds, expected in ((19.9, Liveness.LIVE), (20.5, Liveness.SUSPECT), (40.5, Liveness.DOWN)):
        clock.seconds = 1000.0 + seconds
        registry.tick()
        registry.tick()
        assert liveness_of(registry, "a") is expected
        assert liveness_of(registry, "b") is Liveness.LIVE
    assert registry.host.counts() == (1, 0, 1, 0)


def test_a_held_node_stays_suspect_until_it_is_let_go() -> None:
    clock = MovedClock()
    registry = NodeRegistry(clock=clock, heartbeat_timeout_seconds=4.0)
    for name in ("a", "b"):
        registry.host.register(Node("192.0.2.1", id=name), interval_seconds=1.0, state={})
    registry.host.hold_down(lambda node_id: node_id == "a")
    for _ in range(40):
        clock.seconds += 0.5
        registry.tick()
    assert liveness_of(registry, "a") is Liveness.SUSPECT
    assert liveness_of(registry, "b") is Liveness.DOWN
    registry.host.hold_down(None)
    clock.seconds += 1.0
    registry.tick()
    assert liveness_of(registry, "a") is Liveness.DOWN
    registry.deregister_node("b")
    assert registry.host.counts() == (0, 0, 1, 0)


def test_of_many_that_fall_silent_at_one_moment_nobody_who_asks_waits_for_all() -> None:
    clock = MovedClock()
    registry = NodeRegistry(clock=clock, heartbeat_timeout_seconds=4.0)
    count = 2 * PACED_AT_ONCE + 1
    with registry.batch():
        for number in range(count):
            registry.host.register(Node("192.0.2.1", id=f"n{number}"), interval_seconds=1.0, state={})
    registry.host.pace(10.0)
    clock.seconds += 20.5
    suspected: list[int] = []
    while not suspected or suspected[-1] < count:
        for _ in range(3):  # of those who ask within the rest the first one has it done
            registry.get_node("n0")
            registry.admin.cordon("n0")  # nor does a commit have more of it done
            suspected.append(registry.host.counts().suspect)
        clock.seconds += PACED_REST_SECONDS
    assert suspected == [PACED_AT_ONCE] * 3 + [2 * PACED_AT_ONCE] * 3 + [count] * 3
    assert 0.0 < registry.tick() <= 60.0
