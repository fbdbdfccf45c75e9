"""What a node can do about how it is judged, short of being there and working well: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from evaluation.attendance_attacks import Strategy, evaluate_attendance, simulate
from registry_core import Node, NodeRegistry
from registry_core.errors import UnknownNodeError
from registry_core.models.reputation import Evidence
from tests.embedded.test_reputations import Clock

HOUR = 3600.0


@pytest.mark.timeout(300)
def test_no_way_of_going_scores_above_a_node_that_just_goes_silent() -> None:
    for row in evaluate_attendance(days=6)["rows"]:
        assert row["score"] <= row["score_of_honest_with_same_time_live"] + 0.005, row
        assert row["expected_uptime_6h"] <= row["expected_uptime_6h_of_honest"] + 0.005, row
        assert row["expected_uptime_6h"] < 0.3, row  # it never stays so long


@pytest.mark.timeout(120)
def test_who_is_always_there_scores_above_all_of_them_and_may_leave_for_maintenance() -> None:
    steady = Strategy("steady", live_minutes=60, way="stays")
    mends = Strategy("mends", live_minutes=24 * 60 - 10, way="leaves", cycle_minutes=24 * 60)
    flaps = Strategy("flaps", live_minutes=15, way="leaves")
    found = simulate([steady, mends, flaps], days=12)
    assert found["mends"].availability.failures == 0
    assert found["mends"].score == pytest.approx(found["steady"].score, abs=0.02)
    assert found["flaps"].score < found["mends"].score - 1.0


def registry_of(clock: Clock, path: Optional[Path] = None) -> NodeRegistry:
    return NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=900.0)


def be_live(registry: NodeRegistry, clock: Clock, node_id: str, hours: float) -> None:
    for _ in range(int(hours * 12)):
        clock.seconds += 300
        registry.update_node_health(node_id)
    while registry.host.settle_hours():
        pass


def pass_time(registry: NodeRegistry, clock: Clock, hours: float) -> None:
    for _ in range(round(hours * 10)):
        clock.seconds += HOUR / 10
        registry.tick()
        while registry.host.settle_hours():
            pass


def availability(registry: NodeRegistry, node_id: str) -> Evidence:
    return registry.get_reputation(node_id).evidence.get("availability", Evidence())


def test_a_removal_settles_the_hours_before_it_and_the_return_pays_for_the_absence(tmp_path: Path) -> None:
    clock = Clock()
    with registry_of(clock, tmp_path / "nodes.db") as registry:
        registry.register_node(Node("192.0.2.1", id="a"))
        registry.update_node_reputation("a", True)
        be_live(registry, clock, "a", 30.0)
        pass_time(registry, clock, 0.9)  # it falls silent, and is removed before the hour is settled
        assert availability(registry, "a").failures == 0
        assert registry.deregister_node("a")
        registry.register_node(Node("192.0.2.1", id="a"))
        at_removal = availability(registry, "a")
        assert at_removal.failures == pytest.approx(0.65 / 6, rel=0.1)
        assert registry.deregister_node("a")
        pass_time(registry, clock, 30.0)
    clock.seconds += 100 * HOUR  # nobody watched
    with registry_of(clock, tmp_path / "nodes.db") as again:
        pass_time(again, clock, 18.0)
        again.register_node(Node("192.0.2.1", id="a"))
        absent_units = (1.0 - 0.95**8) / 0.05  # 48 hours, with forgetting
        assert availability(again, "a").failures == pytest.approx(absent_units, rel=0.05)
        again.deregister_node("a")
        again.register_node(Node("192.0.2.1", id="a"))  # it is paid for once
        assert availability(again, "a").failures == pytest.approx(absent_units, rel=0.05)


def test_a_short_absence_now_and_then_costs_nothing(tmp_path: Path) -> None:
    clock = Clock()
    with registry_of(clock) as registry:
        registry.register_node(Node("192.0.2.1", id="a"))
        registry.update_node_reputation("a", True)
        for _ in range(4):
            be_live(registry, clock, "a", 48.0)
            assert registry.deregister_node("a")
            clock.seconds += 2 * HOUR
            registry.tick()
            registry.register_node(Node("192.0.2.1", id="a"))
        assert availability(registry, "a").failures == 0


def test_a_node_that_is_never_live_at_a_full_hour_is_not_foretold_to_stay() -> None:
    found = simulate([Strategy("flaps", live_minutes=15, way="falls silent", phase_minutes=20)], days=8)
    assert found["flaps"].expected_uptime_6h < 0.3


def test_newcomers_that_come_and_go_push_nobody_s_past_out(tmp_path: Path) -> None:
    clock = Clock()
    with registry_of(clock) as registry:
        registry.register_node(Node("192.0.2.1", id="cheat"))
        for _ in range(20):
            registry.update_node_reputation("cheat", False, weight=5.0)
        assert str(registry.get_reputation("cheat").standing) == "suspended"
        registry.deregister_node("cheat")
        for start in range(0, 10_500, 500):
            with registry.batch():
                for number in range(start, start + 500):
                    registry.register_node(Node("192.0.2.9", id=f"n{number}"))
            clock.seconds += 60
            registry.tick()
            with registry.batch():
                for number in range(start, start + 500):
                    registry.deregister_node(f"n{number}")
        registry.register_node(Node("192.0.2.1", id="cheat"))
        assert str(registry.get_reputation("cheat").standing) == "suspended"


def test_a_fault_is_counted_though_the_node_was_removed_before_it_was_told() -> None:
    with registry_of(Clock()) as registry:
        registry.register_node(Node("192.0.2.1", id="a"))
        for _ in range(3):
            registry.update_node_reputation("a", True)
        registry.deregister_node("a")
        for _ in range(5):
            told = registry.update_node_reputation("a", False, weight=5.0)
        assert str(told.standing) == "suspended"
        with pytest.raises(UnknownNodeError):
            registry.update_node_reputation("a", True)  # praise waits until it is back
        with pytest.raises(UnknownNodeError):
            registry.update_node_reputation("nobody", False)
        registry.register_node(Node("192.0.2.1", id="a"))
        back = registry.get_reputation("a")
        assert str(back.standing) == "suspended"
        assert back.evidence["correctness"].failures > 20
