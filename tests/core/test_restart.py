"""What a restart keeps and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Callable

import pytest

from registry_core import EventsCompacted, NodeRegistry
from tests.core.hands import START, HandClock, a_node
from tests.core.places import FILE_PLACES

Open = Callable[[], NodeRegistry]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=list(FILE_PLACES.values()), ids=list(FILE_PLACES))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Iterator[Open]:
    """Opens the registry, after closing the one opened before."""
    opened: list[NodeRegistry] = []

    def next_one() -> NodeRegistry:
        for earlier in opened:
            earlier.close()
        opened.append(NodeRegistry(request.param(tmp_path).path, clock=clock, heartbeat_timeout_seconds=60))
        return opened[-1]

    yield next_one
    for earlier in opened:
        earlier.close()


def test_all_that_was_durable_is_there_again(reopen: Open) -> None:
    first = reopen()
    for number in (2, 1, 3):
        first.register_node(a_node(number, tags={"n": str(number)}))
    first.update_node_reputation("node-3", True)
    first.admin.approve("node-1", reason="known", actor="ann")
    first.admin.cordon("node-2", until=START + timedelta(hours=1))
    before = first.list_nodes()
    second = reopen()
    assert second.list_nodes() == before
    assert [node.id for node in second.list_nodes()] == ["node-3", "node-2", "node-1"]
    assert second.get_reputation("node-3").score > 1


def test_samples_come_back_and_their_conditions_are_unknown_until_the_next_one(reopen: Open) -> None:
    first = reopen()
    first.register_node(a_node())
    first.update_node_health("node-1", 1.0, 99.0, 3.0)
    assert first.count_nodes(only_healthy=True) == 0
    second = reopen()
    node = second.get_node("node-1")
    assert node is not None
    assert node.health.memory_usage == 99.0
    assert node.health.last_heartbeat == START
    assert node.health.conditions.memory == "unknown"
    assert node.is_ready
    assert not second.update_node_health("node-1", 1.0, 99.0, 3.0).is_healthy


def test_nobody_goes_down_because_the_registry_was_away(reopen: Open, clock: HandClock) -> None:
    reopen().register_node(a_node())
    clock.move(100_000)
    second = reopen()
    assert second.count_nodes(only_healthy=True) == 1
    clock.move(61)
    assert second.count_nodes(only_healthy=True) == 0


def test_the_index_of_events_rises_over_a_restart(reopen: Open) -> None:
    first = reopen()
    first.register_node(a_node(1))
    followed = first.events.last_index
    second = reopen()
    assert second.events.last_index > followed
    with pytest.raises(EventsCompacted):
        second.events.after(followed)
    start = second.events.last_index
    second.register_node(a_node(2))
    assert [event.node_id for event in second.events.after(start)] == ["node-2"]


def test_a_cordon_that_ended_meanwhile_is_over(reopen: Open, clock: HandClock) -> None:
    first = reopen()
    first.register_node(a_node())
    first.admin.cordon("node-1", until=START + timedelta(minutes=1))
    clock.move(61)
    assert reopen().count_nodes(only_healthy=True) == 1


def test_the_order_of_registration_is_never_given_twice(reopen: Open) -> None:
    first = reopen()
    first.register_node(a_node(1))
    first.register_node(a_node(2))
    first.deregister_node("node-2")
    second = reopen()
    second.register_node(a_node(3))
    second.register_node(a_node(2))
    assert [node.id for node in reopen().list_nodes()] == ["node-1", "node-3", "node-2"]


def test_a_node_that_left_is_still_away(reopen: Open) -> None:
    first = reopen()
    first.register_node(a_node())
    first.maintenance.leave("node-1")
    node = reopen().get_node("node-1")
    assert node is not None
    assert node.liveness == "left"
