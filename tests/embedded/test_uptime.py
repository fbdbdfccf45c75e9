"""Being there, as the registry observes it: hours of its own time, in memory, settled into the evidence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from registry_core import Node, NodeOrder, NodeQuery, NodeRegistry
from registry_core.errors import UnknownNodeError, ValidationError
from registry_core.models.reputation import Evidence
from tests.embedded.test_reputations import Clock

HOUR = 3600.0
BEAT = 300.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock, tmp_path: Path) -> Iterator[NodeRegistry]:
    with NodeRegistry(tmp_path / "nodes.db", clock=clock, heartbeat_timeout_seconds=900.0) as opened:
        opened.register_node(Node("192.0.2.1", id="steady"))
        opened.register_node(Node("192.0.2.2", id="flaky"))
        yield opened


def _pass(registry: NodeRegistry, clock: Clock, hours: float, *alive: str) -> None:
    for _ in range(int(hours * HOUR / BEAT)):
        clock.seconds += BEAT
        registry.tick()
        for node_id in alive:
            registry.update_node_health(node_id)


def _settle(registry: NodeRegistry) -> None:
    while registry.host.settle_hours(most=1):
        pass


def _availability(registry: NodeRegistry, node_id: str) -> Evidence:
    return registry.get_reputation(node_id).evidence.get("availability", Evidence())


def test_who_is_there_gains_and_who_is_not_loses(registry: NodeRegistry, clock: Clock) -> None:
    for _ in range(8):
        registry.update_node_reputation("steady", True)
        registry.update_node_reputation("flaky", True)
    before = registry.get_reputation("steady").score
    _pass(registry, clock, 20, "steady", "flaky")
    _pass(registry, clock, 20, "steady")
    _settle(registry)
    assert _availability(registry, "steady").failures == 0
    assert _availability(registry, "flaky").failures > 2
    assert registry.get_reputation("steady").score > before > registry.get_reputation("flaky").score
    steady, flaky = (registry.get_node(name) for name in ("steady", "flaky"))
    assert steady is not None
    assert flaky is not None
    assert [node.id for node in registry.list_nodes()] == ["steady", "flaky"]
    assert steady.reputation > flaky.reputation
    assert registry.expected_uptime("steady", 6.0) > registry.expected_uptime("flaky", 6.0)
    assert registry.expected_uptime("steady", 12.0) < registry.expected_uptime("steady", 6.0)


def test_hours_are_counted_once_by_whichever_comes_first(registry: NodeRegistry, clock: Clock) -> None:
    _pass(registry, clock, 5, "steady", "flaky")
    registry.update_node_reputation("steady", True)
    one_way = _availability(registry, "steady")
    assert one_way.weight > 0.5
    _settle(registry)
    assert _availability(registry, "steady") == one_way
    assert _availability(registry, "flaky").weight == pytest.approx(one_way.weight)
    assert registry.host.settle_hours() == 0
    _pass(registry, clock, 1, "steady", "flaky")
    assert registry.host.settle_hours() == 2


def test_a_damaged_record_keeps_no_other_node_s_hours_from_being_written(
    registry: NodeRegistry, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _pass(registry, clock, 5, "steady", "flaky")
    with closing(sqlite3.connect(tmp_path / "nodes.db")) as file, file:
        file.execute("UPDATE nodes SET record = zeroblob(300) WHERE id = 'flaky'")
    assert registry.host.settle_hours() == 2
    assert registry.host.settle_hours() == 0
    assert _availability(registry, "steady").weight > 0.5
    assert "the hours of node flaky cannot be written" in caplog.text


def test_a_node_that_left_in_good_order_is_not_judged(registry: NodeRegistry, clock: Clock) -> None:
    _pass(registry, clock, 2, "steady", "flaky")
    registry.leave("flaky")
    _pass(registry, clock, 10, "steady")
    _settle(registry)
    assert _availability(registry, "flaky").failures == 0
    assert _availability(registry, "steady").weight > 2 * _availability(registry, "flaky").weight


def test_time_before_a_node_registered_is_not_its_own(registry: NodeRegistry, clock: Clock) -> None:
    _pass(registry, clock, 3.5, "steady", "flaky")
    registry.register_node(Node("192.0.2.3", id="late"))
    _pass(registry, clock, 1.5, "steady", "flaky", "late")
    _settle(registry)
    assert _availability(registry, "late").failures == 0
    assert _availability(registry, "late").weight == pytest.approx(1.5 / 6, rel=0.05)


def test_what_was_settled_is_there_after_a_restart(registry: NodeRegistry, clock: Clock, tmp_path: Path) -> None:
    _pass(registry, clock, 30, "steady")
    _settle(registry)
    before = registry.get_reputation("flaky"), registry.expected_uptime("steady", 6.0)
    registry.close()
    with NodeRegistry(tmp_path / "nodes.db", clock=clock, heartbeat_timeout_seconds=900.0) as again:
        assert (again.get_reputation("flaky"), again.expected_uptime("steady", 6.0)) == before


def test_a_node_that_was_down_at_a_restart_is_judged_from_when_it_is_heard_or_by_whole_hours_of_silence(
    registry: NodeRegistry, clock: Clock, tmp_path: Path
) -> None:
    registry.register_node(Node("192.0.2.3", id="gone"))
    _pass(registry, clock, 1, "steady")
    _settle(registry)
    before = {name: _availability(registry, name) for name in ("flaky", "gone")}
    registry.close()
    clock.seconds += 50 * HOUR  # nobody watched
    with NodeRegistry(tmp_path / "nodes.db", clock=clock, heartbeat_timeout_seconds=900.0) as again:
        _pass(again, clock, 0.5, "steady")
        _pass(again, clock, 2.5, "steady", "flaky")
        _settle(again)
        assert _availability(again, "flaky").failures <= before["flaky"].failures  # what was is slowly forgotten
        assert _availability(again, "flaky").successes > before["flaky"].successes
        watched = _availability(again, "gone").failures - before["gone"].failures
        assert watched == pytest.approx(3 / 6, rel=0.05)


def test_where_silence_changes_nothing_being_there_proves_nothing(clock: Clock) -> None:
    with NodeRegistry(clock=clock) as registry:
        registry.register_node(Node("192.0.2.1", id="a"))
        _pass(registry, clock, 40, "a")
        assert registry.host.settle_hours() == 0
        assert _availability(registry, "a") == Evidence()
        with pytest.raises(UnknownNodeError):
            registry.expected_uptime("nobody", 6.0)


def test_a_newcomer_is_expected_to_do_as_the_network_does(registry: NodeRegistry, clock: Clock) -> None:
    for _ in range(10):
        _pass(registry, clock, 4, "steady", "flaky")
        _pass(registry, clock, 4)
    _settle(registry)
    registry.register_node(Node("192.0.2.3", id="new"))
    assert registry.expected_uptime("new", 6.0) < 0.6


def test_nodes_can_be_asked_to_stay_in_every_order_and_page_by_page(registry: NodeRegistry, clock: Clock) -> None:
    for number in range(6):
        registry.register_node(Node("192.0.2.9", id=f"n{number}"))
    steady = ["steady", "n0", "n1", "n2"]
    for _ in range(6):
        _pass(registry, clock, 4, *steady, "flaky", "n3", "n4", "n5")
        _pass(registry, clock, 4, *steady)
    _settle(registry)
    likely = registry.expected_uptime("n3", 6.0) + 0.01
    assert likely < registry.expected_uptime("n0", 6.0)
    whole = [node.id for node in registry.list_nodes(min_uptime_probability=likely)]
    assert registry.count_nodes(min_uptime_probability=likely) == len(whole)
    assert sorted(whole) == sorted(steady)
    for order in ("random", "explore", "least_loaded"):
        found = registry.list_nodes(min_uptime_probability=likely, order=order, seed=3)
        assert sorted(node.id for node in found) == sorted(steady)
    for look_at_most in (None, 1, 2, 5):
        pages: list[str] = []
        query = NodeQuery(min_uptime_probability=likely, limit=3)
        while True:
            page = registry.find_nodes(query, look_at_most=look_at_most)
            assert look_at_most is None or len(page.nodes) <= look_at_most
            pages += [node.id for node in page.nodes]
            if page.next is None:
                break
            query = NodeQuery(min_uptime_probability=likely, limit=3, after=page.next)
        assert pages == whole
    drawn = NodeQuery(min_uptime_probability=likely, limit=2, order=NodeOrder.RANDOM)
    assert set(steady) >= {node.id for node in registry.find_nodes(drawn, look_at_most=4).nodes}
    assert registry.list_nodes(min_uptime_probability=0.0, limit=1)
    with pytest.raises(ValidationError, match="min_uptime_probability"):
        registry.list_nodes(min_uptime_probability=1.1)
    with pytest.raises(ValidationError, match="min_uptime_probability"):
        registry.count_nodes(min_uptime_probability=-0.1)
