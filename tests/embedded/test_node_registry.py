"""What every embedded registry does, wherever it is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest

from registry_core import (
    Admission,
    Condition,
    EventKind,
    EventsCompacted,
    Gpu,
    GpuDemand,
    HealthThresholds,
    Liveness,
    Node,
    NodeCapabilities,
    NodeQuery,
    NodeRegistry,
    RegistryClosedError,
    Scheduling,
    UnknownNodeError,
    ValidationError,
)
from registry_core.query.node_query import NodePage
from registry_core.testing import START, HandClock
from tests.support.builders import a_node
from tests.support.places import ALL_PLACES


@pytest.fixture(params=list(ALL_PLACES.values()), ids=list(ALL_PLACES))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Optional[Path]:
    found: Optional[Path] = request.param(tmp_path).path
    return found


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def registry(path: Optional[Path], clock: HandClock) -> Iterator[NodeRegistry]:
    with NodeRegistry(path, clock=clock) as opened:
        yield opened


@pytest.fixture
def watching(path: Optional[Path], clock: HandClock) -> Iterator[NodeRegistry]:
    """Silent nodes are suspect after 30 seconds and down after 60."""
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as opened:
        yield opened


def ids(nodes: list[Node]) -> list[str]:
    return [node.id for node in nodes]


def test_a_new_node_starts_on_probation_live_eligible_and_ready(registry: NodeRegistry) -> None:
    node_id = registry.register_node(a_node(wallet_address="w"))
    node = registry.get_node(node_id)
    assert node is not None
    assert (node.admission, node.liveness, node.scheduling) == ("probation", "live", "eligible")
    assert node.is_ready
    assert node.is_healthy
    assert node.reputation == 0.25
    assert node.registered_at == START
    assert node.health.last_heartbeat == START
    assert node.health.conditions.load is Condition.UNKNOWN


def test_fields_that_belong_to_the_registry_are_ignored(registry: NodeRegistry) -> None:
    claimed = a_node(
        reputation=5.0, admission="approved", liveness="left", scheduling="cordoned", registered_at=START - timedelta(1)
    )
    node = registry.get_node(registry.register_node(claimed))
    assert node is not None
    assert node.reputation == 0.25
    assert node.admission is Admission.PROBATION
    assert node.liveness is Liveness.LIVE
    assert node.scheduling is Scheduling.ELIGIBLE
    assert node.registered_at == START


def test_registering_again_updates_the_description_and_keeps_history(registry: NodeRegistry, clock: HandClock) -> None:
    registry.register_node(a_node(1))
    registry.update_node_reputation("node-1", True)
    registry.update_node_health("node-1", 1.0, 2.0, 3.0)
    registry.admin.approve("node-1", reason="known", actor="ann")
    clock.move(5)
    registry.register_node(a_node(1, hostname="new"))
    node = registry.get_node("node-1")
    assert node is not None
    assert node.hostname == "new"
    assert node.reputation == 1.12
    assert node.admission is Admission.APPROVED
    assert node.health.memory_usage == 2.0
    assert node.registered_at == START
    assert registry.count_nodes() == 1


@pytest.mark.parametrize(("successes", "score"), [(0, 0.25), (1, 1.12), (5, 3.03), (10, 3.8)])
def test_reputation_is_the_lower_bound_of_task_outcomes(registry: NodeRegistry, successes: int, score: float) -> None:
    registry.register_node(a_node())
    for _ in range(successes):
        assert registry.update_node_reputation("node-1", task_success=True).score > 0.25
    node = registry.get_node("node-1")
    assert node is not None
    assert node.reputation == score
    assert registry.get_reputation("node-1").score == pytest.approx(score, abs=0.005)


def test_a_failure_costs_reputation(registry: NodeRegistry) -> None:
    registry.register_node(a_node())
    better = registry.update_node_reputation("node-1", task_success=True)
    assert registry.update_node_reputation("node-1", task_success=False).score < better.score


def test_an_unknown_id_is_an_error_in_an_update_and_none_in_a_query(registry: NodeRegistry) -> None:
    for attempt in (
        lambda: registry.update_node_health("nobody", 1.0),
        lambda: registry.update_node_reputation("nobody", True),
        lambda: registry.get_reputation("nobody"),
        lambda: registry.admin.approve("nobody"),
        lambda: registry.admin.cordon("nobody"),
        lambda: registry.leave("nobody"),
    ):
        with pytest.raises(UnknownNodeError):
            attempt()
    assert registry.get_node("nobody") is None
    assert registry.deregister_node("nobody") is False


def test_nodes_come_by_reputation_and_ties_by_registration(registry: NodeRegistry) -> None:
    for number in (3, 1, 2, 4):
        registry.register_node(a_node(number))
    registry.update_node_reputation("node-2", True)
    assert ids(registry.list_nodes()) == ["node-2", "node-3", "node-1", "node-4"]
    registry.deregister_node("node-3")
    registry.register_node(a_node(3))
    assert ids(registry.list_nodes()) == ["node-2", "node-1", "node-4", "node-3"]


def test_scores_that_round_to_the_same_hundredth_are_ties(registry: NodeRegistry) -> None:
    registry.register_node(a_node(1))
    registry.register_node(a_node(2))
    for node_id, tasks in (("node-1", 500), ("node-2", 501)):  # 4.9621… and 4.9622…
        with registry.batch():
            for _ in range(tasks):
                registry.update_node_reputation(node_id, True)
    assert registry.get_reputation("node-1").score < registry.get_reputation("node-2").score
    assert ids(registry.list_nodes(min_reputation=4.96)) == ["node-1", "node-2"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["rich", "gpu", "poor"]),
        ({"min_reputation": 0.25}, ["rich", "gpu", "poor"]),
        ({"min_reputation": 0.26}, ["rich"]),
        ({"min_reputation": 1.12}, ["rich"]),
        ({"min_reputation": 1.121}, []),
        ({"only_healthy": True}, ["rich", "gpu"]),
        ({"min_capabilities": NodeCapabilities(cpu_cores=8)}, ["rich"]),
        ({"min_capabilities": NodeCapabilities(memory_gb=16.0)}, ["rich", "gpu"]),
        ({"min_capabilities": NodeCapabilities(memory_gb=16.000001)}, ["rich"]),
        ({"min_capabilities": NodeCapabilities(gpu_enabled=True)}, ["gpu"]),
        ({"min_capabilities": NodeCapabilities()}, ["rich", "gpu", "poor"]),
        ({"wallet_address": "w1"}, ["rich", "poor"]),
        ({"wallet_address": "w"}, []),
        ({"wallet_address": ""}, ["gpu"]),
        ({"tags": {"region": "eu"}}, ["gpu", "poor"]),
        ({"tags": {"region": "eu", "zone": "a"}}, ["gpu"]),
        ({"exclude": ["rich", "nobody"]}, ["gpu", "poor"]),
        ({"gpus": GpuDemand()}, ["gpu"]),
        ({"gpus": GpuDemand(2, vendor="nvidia", model="h100", memory_gb=80)}, ["gpu"]),
        ({"gpus": GpuDemand(3)}, []),
        ({"gpus": GpuDemand(vendor="AMD")}, []),
        ({"gpus": GpuDemand(memory_gb=80.1)}, []),
        ({"limit": 2}, ["rich", "gpu"]),
        ({"limit": 0}, []),
        ({"after": "rich"}, ["gpu", "poor"]),
    ],
)
def test_a_query_finds_what_meets_every_condition(
    registry: NodeRegistry, query: dict[str, Any], expected: list[str]
) -> None:
    h100 = Gpu("NVIDIA", "NVIDIA H100 80GB HBM3", 80.0)
    broken = Gpu("AMD", "MI300", 192.0, usable=False, reason="no driver")
    registry.register_node(a_node(1, id="rich", wallet_address="w1", capabilities=NodeCapabilities(64, 512.0, 4000.0)))
    registry.register_node(
        a_node(
            2,
            id="gpu",
            capabilities=NodeCapabilities(4, 16.0, 500.0, gpus=(h100, h100, broken)),
            tags={"region": "eu", "zone": "a"},
        )
    )
    registry.register_node(
        a_node(3, id="poor", wallet_address="w1", capabilities=NodeCapabilities(1, 1.0, 1.0), tags={"region": "eu"})
    )
    registry.update_node_reputation("rich", True)
    registry.update_node_health("poor", memory_usage=99.0)
    assert ids(registry.list_nodes(**query)) == expected
    if not query.keys() & {"limit", "after"}:
        assert registry.count_nodes(**query) == len(expected)


def test_a_cursor_goes_on_behind_the_last_node(registry: NodeRegistry) -> None:
    for number in range(1, 8):
        registry.register_node(a_node(number))
    registry.update_node_reputation("node-4", True)
    seen, cursor = [], None
    while True:
        page = registry.find_nodes(NodeQuery(limit=3, after=cursor))
        seen += ids(page.nodes)
        cursor = page.next
        if cursor is None:
            break
        registry.deregister_node(seen[-1])  # the cursor does not need its node
    assert seen == ["node-4", "node-1", "node-2", "node-3", "node-5", "node-6", "node-7"]


def test_an_empty_page_has_no_cursor(registry: NodeRegistry) -> None:
    assert registry.find_nodes(NodeQuery(limit=5)) == NodePage([], None)


def test_a_gauge_at_its_threshold_is_critical_until_it_falls_well_below(registry: NodeRegistry) -> None:
    registry.register_node(a_node())
    for usage, expected in ((89.9, "ok"), (90.0, "critical"), (81.0, "critical"), (80.9, "ok"), (85.0, "ok")):
        health = registry.update_node_health("node-1", memory_usage=usage)
        assert health.conditions.memory == expected, usage
        assert health.is_healthy is (expected == "ok")
        assert registry.count_nodes(only_healthy=True) == (expected == "ok")


def test_thresholds_can_be_set(path: Optional[Path]) -> None:
    with NodeRegistry(path, thresholds=HealthThresholds(load_per_cpu=1.0, disk_usage=50.0)) as registry:
        registry.register_node(a_node())  # four cores
        assert registry.update_node_health("node-1", 3.9, 89, 49).is_healthy
        assert not registry.update_node_health("node-1", 4.0).is_healthy
        assert not registry.update_node_health("node-1", 0.0, 0, 50).is_healthy


def test_a_sample_costs_no_commit(registry: NodeRegistry, path: Optional[Path]) -> None:
    registry.register_node(a_node())
    before = path.read_bytes() if path is not None else None
    for _ in range(10):
        registry.update_node_health("node-1", 1.0, 2.0, 3.0)
        registry.tick()
    assert (path.read_bytes() if path is not None else None) == before


def test_a_snapshot_is_not_changed_by_what_comes_after(registry: NodeRegistry) -> None:
    registry.register_node(a_node())
    before = registry.get_node("node-1")
    registry.update_node_health("node-1", 1.0, 99.0, 3.0)
    registry.update_node_reputation("node-1", True)
    assert before is not None
    assert before.health.memory_usage is None
    assert before.reputation == 0.25
    assert before.is_ready


def test_silence_changes_nothing_unless_a_timeout_is_set(registry: NodeRegistry, clock: HandClock) -> None:
    registry.register_node(a_node())
    clock.move(10_000_000)
    node = registry.get_node("node-1")
    assert node is not None
    assert node.is_ready


def test_a_silent_node_is_suspect_then_down_and_live_again_when_heard(watching: NodeRegistry, clock: HandClock) -> None:
    watching.register_node(a_node())

    def liveness() -> str:
        node = watching.get_node("node-1")
        assert node is not None
        assert node.is_ready is (node.liveness == "live")
        return node.liveness.value

    clock.move(29)
    assert liveness() == "live"
    clock.move(1.1)
    assert liveness() == "suspect"
    assert watching.count_nodes(only_healthy=True) == 0
    clock.move(29)
    assert liveness() == "suspect"
    clock.move(1)
    assert liveness() == "down"
    watching.update_node_health("node-1")
    assert liveness() == "live"
    clock.move(20)
    watching.register_node(a_node())
    clock.move(20)
    assert liveness() == "live"
    clock.move(11)
    assert liveness() == "suspect"
    told = [(e.details["from"], e.details["to"]) for e in watching.events.after(0) if e.kind is EventKind.LIVENESS]
    assert told == [("live", "suspect"), ("suspect", "down"), ("down", "live"), ("live", "suspect")]


def test_a_node_that_told_a_longer_interval_is_given_its_time(watching: NodeRegistry, clock: HandClock) -> None:
    watching.register_node(a_node(1), interval_seconds=600)
    watching.register_node(a_node(2), interval_seconds=1)
    clock.move(61)
    assert ids(watching.list_nodes(only_healthy=True)) == ["node-1"]
    clock.move(1200)
    assert watching.count_nodes(only_healthy=True) == 0


def test_setting_the_wall_clock_takes_nobody_down(watching: NodeRegistry, clock: HandClock) -> None:
    watching.register_node(a_node())
    clock.set_wall(START + timedelta(days=365))
    assert watching.count_nodes(only_healthy=True) == 1
    clock.set_wall(START - timedelta(days=365))
    assert watching.count_nodes(only_healthy=True) == 1
    clock.move(61)
    assert watching.count_nodes(only_healthy=True) == 0


def test_tick_says_when_to_come_again(watching: NodeRegistry, clock: HandClock) -> None:
    assert watching.tick() == 60.0
    watching.register_node(a_node())
    assert watching.tick() == pytest.approx(30.0, abs=0.1)
    clock.move(30.1)
    assert watching.tick() == pytest.approx(29.9, abs=0.1)


def test_a_node_that_left_is_left_until_it_is_heard(watching: NodeRegistry, clock: HandClock) -> None:
    watching.register_node(a_node())
    watching.leave("node-1")
    clock.move(1000)
    node = watching.get_node("node-1")
    assert node is not None
    assert node.liveness is Liveness.LEFT
    assert not node.is_ready
    watching.update_node_health("node-1")
    again = watching.get_node("node-1")
    assert again is not None
    assert again.liveness is Liveness.LIVE


@pytest.mark.parametrize("command", ["suspend", "ban"])
def test_a_node_taken_out_is_not_ready_even_after_registering_again(registry: NodeRegistry, command: str) -> None:
    registry.register_node(a_node())
    getattr(registry.admin, command)("node-1", reason="it lied", actor="ann")
    registry.register_node(a_node(hostname="new"))
    node = registry.get_node("node-1")
    assert node is not None
    assert not node.is_ready
    assert node.admission_reason == "it lied"
    assert registry.list_nodes(only_healthy=True) == []
    registry.admin.approve("node-1")
    assert registry.count_nodes(only_healthy=True) == 1


def test_a_command_that_makes_no_sense_is_refused(registry: NodeRegistry) -> None:
    registry.register_node(a_node())
    registry.admin.ban("node-1")
    with pytest.raises(ValidationError, match="banned"):
        registry.admin.suspend("node-1")


def test_a_cordon_ends_by_hand_or_by_time(registry: NodeRegistry, clock: HandClock) -> None:
    registry.register_node(a_node(1))
    registry.register_node(a_node(2))
    registry.admin.cordon("node-1", reason="repair", actor="ann", until=START + timedelta(minutes=10))
    registry.admin.cordon("node-2", reason="repair", actor="ann")
    node = registry.get_node("node-1")
    assert node is not None
    assert node.cordon is not None
    assert (node.cordon.reason, node.cordon.actor, node.scheduling) == ("repair", "ann", "cordoned")
    assert registry.list_nodes(only_healthy=True) == []
    clock.move(601)
    assert ids(registry.list_nodes(only_healthy=True)) == ["node-1"]
    again = registry.get_node("node-1")
    assert again is not None
    assert again.cordon is None
    registry.admin.uncordon("node-2", actor="ann")
    assert registry.count_nodes(only_healthy=True) == 2
    told = [e.details["to"] for e in registry.events.after(0) if e.kind is EventKind.SCHEDULING]
    assert told == ["cordoned", "cordoned", "eligible", "eligible"]


def test_the_end_of_a_cordon_is_told_once_whatever_changes_about_the_node_later(
    registry: NodeRegistry, clock: HandClock
) -> None:
    registry.register_node(a_node(1))
    registry.admin.cordon("node-1", until=START + timedelta(minutes=10))
    clock.move(601)
    registry.register_node(a_node(1, hostname="renamed"))
    registry.update_node_reputation("node-1", task_success=True)
    registry.tick()
    node = registry.get_node("node-1")
    assert node is not None
    assert (node.scheduling, node.is_ready) == ("eligible", True)
    ends = [e for e in registry.events.after(0) if e.kind == "scheduling" and e.details["to"] == "eligible"]
    assert len(ends) == 1
    registry.admin.cordon("node-1", until=START + timedelta(minutes=20))
    assert registry.list_nodes(only_healthy=True) == []


def test_a_batch_is_all_or_nothing(registry: NodeRegistry) -> None:
    registry.register_node(a_node(1))

    def fail_at_the_end() -> None:
        with registry.batch():
            registry.register_node(a_node(2))
            registry.update_node_reputation("node-1", True)
            registry.deregister_node("node-1")
            registry.update_node_reputation("nobody", True)

    with pytest.raises(UnknownNodeError):
        fail_at_the_end()
    assert ids(registry.list_nodes()) == ["node-1"]
    assert registry.get_reputation("node-1").score == pytest.approx(0.25)
    with registry.batch():
        registry.register_node(a_node(2))
        registry.update_node_reputation("node-2", True)
        inside = registry.get_node("node-2")
        assert inside is not None
        assert inside.reputation == 1.12
        assert registry.get_reputation("node-2").score > 1
        assert registry.update_node_health("node-2", memory_usage=95.0).is_healthy is False
        registry.deregister_node("node-1")
        assert registry.get_node("node-1") is None
        with registry.batch():
            registry.register_node(a_node(3))
    assert ids(registry.list_nodes()) == ["node-2", "node-3"]
    assert ids(registry.list_nodes(only_healthy=True)) == ["node-3"]
    registry.update_node_reputation("node-3", True)


def test_durable_calls_of_other_threads_wait_for_a_batch_and_soft_ones_do_not(registry: NodeRegistry) -> None:
    registry.register_node(a_node(1))
    other = threading.Thread(target=registry.update_node_reputation, args=("node-1", True))
    with registry.batch():
        registry.update_node_reputation("node-1", True)
        other.start()
        soft = threading.Thread(target=registry.update_node_health, args=("node-1", 1.0))
        soft.start()
        soft.join(10)
        assert not soft.is_alive()
        assert registry.count_nodes() == 1
    other.join(10)
    assert registry.get_reputation("node-1").evidence["correctness"].successes == pytest.approx(1 + 0.999)


def test_many_threads_lose_nothing(registry: NodeRegistry) -> None:
    registry.register_node(a_node(1))

    def work(worker: int) -> None:
        for turn in range(10):
            registry.register_node(a_node(worker * 100 + turn + 10))
            registry.update_node_reputation("node-1", True)
            registry.update_node_health("node-1", float(turn))
            registry.list_nodes(limit=3)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert registry.count_nodes() == 81
    assert registry.get_reputation("node-1").evidence["correctness"].successes == pytest.approx(
        sum(0.999**n for n in range(80))
    )


def test_events_tell_what_happened_in_order(registry: NodeRegistry) -> None:
    start = registry.events.last_index
    registry.register_node(a_node(1))
    registry.register_node(a_node(1))  # nothing new: no event
    registry.register_node(a_node(1, hostname="new"))
    registry.update_node_reputation("node-1", True)
    registry.update_node_health("node-1", memory_usage=95.0)
    registry.update_node_health("node-1", memory_usage=95.0)
    registry.admin.approve("node-1", reason="known", actor="ann")
    registry.deregister_node("node-1")
    events = registry.events.after(start)
    assert [event.kind.value for event in events] == [
        "registered",
        "updated",
        "reputation",
        "health",
        "admission",
        "deregistered",
    ]
    assert [event.index for event in events] == list(range(start + 1, start + 7))
    assert events[4].details == {"from": "probation", "to": "approved", "reason": "known", "actor": "ann"}
    assert events[4].at == START
    assert registry.events.after(registry.events.last_index) == []
    with pytest.raises(EventsCompacted):
        registry.events.after(registry.events.last_index + 1)


def test_who_waits_for_events_is_woken_by_the_first(registry: NodeRegistry) -> None:
    found: list[Any] = []
    start = registry.events.last_index
    waiter = threading.Thread(target=lambda: found.extend(registry.events.after(start, wait_seconds=30)))
    waiter.start()
    registry.register_node(a_node(1))
    waiter.join(10)
    assert [event.kind for event in found] == [EventKind.REGISTERED]


def test_a_closed_registry_says_so(registry: NodeRegistry) -> None:
    registry.close()
    registry.close()
    for attempt in (registry.list_nodes, registry.save, registry.load, registry.tick, registry.__enter__):
        with pytest.raises(RegistryClosedError):
            attempt()
    with pytest.raises(RegistryClosedError):
        registry.register_node(a_node())


def test_the_records_extra_fields_are_kept(registry: NodeRegistry) -> None:
    registry.register_node(a_node(extra={"rack": 7}))
    registry.register_node(a_node(hostname="older agent"))
    node = registry.get_node("node-1")
    assert node is not None
    assert node.extra == {"rack": 7}


def test_who_wrote_reads_it_back_while_others_read_all_the_time(registry: NodeRegistry) -> None:
    registry.register_node(a_node(1))
    done = threading.Event()
    mixed: list[Node] = []

    def read_all_the_time() -> None:
        while not done.is_set():
            seen = [registry.get_node("node-1"), *registry.list_nodes(limit=2)]
            mixed.extend(node for node in seen if node is not None and node.hostname != node.os_version)

    readers = [threading.Thread(target=read_all_the_time) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(40):
            registry.register_node(a_node(1, hostname=f"h{turn}", os_version=f"h{turn}"))
            node = registry.get_node("node-1")
            assert node is not None
            assert node.hostname == f"h{turn}"
            assert registry.list_nodes()[0].hostname == f"h{turn}"
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert mixed == []
