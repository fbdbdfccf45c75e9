"""What a restart keeps and what it does not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Callable, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core import EventsCompacted, NodeRegistry
from registry_core.models.status import Liveness
from registry_core.storage.open_store import open_store
from registry_core.testing import START, HandClock
from tests.support.builders import a_node
from tests.support.places import FILE_PLACES

Open = Callable[[], NodeRegistry]
TIMEOUT_SECONDS = 60.0


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
        opened.append(
            NodeRegistry(request.param(tmp_path).path, clock=clock, heartbeat_timeout_seconds=TIMEOUT_SECONDS)
        )
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
    first.leave("node-1")
    node = reopen().get_node("node-1")
    assert node is not None
    assert node.liveness == "left"


def liveness_of(registry: NodeRegistry) -> dict[str, Liveness]:
    registry.tick()
    return {node.id: node.liveness for node in registry.list_nodes()}


def test_a_node_that_was_down_stays_down_until_it_is_heard(reopen: Open, clock: HandClock) -> None:
    first = reopen()
    for number in (1, 2, 3):
        first.register_node(a_node(number))
    clock.move(61)
    first.update_node_health("node-2", 1.0)
    assert liveness_of(first) == {"node-1": "down", "node-2": "live", "node-3": "down"}
    for _ in range(2):
        clock.move(1000)
        again = reopen()
        index = again.events.last_index
        assert [node.id for node in again.list_nodes(only_healthy=True)] == ["node-2"]
        clock.move(29)
        assert liveness_of(again) == {"node-1": "down", "node-2": "live", "node-3": "down"}
        assert again.events.after(index) == []
    again.update_node_health("node-3", 1.0)
    assert [node.id for node in again.list_nodes(only_healthy=True)] == ["node-2", "node-3"]
    clock.move(1000)
    assert liveness_of(again) == dict.fromkeys(("node-1", "node-2", "node-3"), "down")
    again.register_node(a_node(1))
    assert liveness_of(reopen()) == {"node-1": "live", "node-2": "down", "node-3": "down"}


def test_a_node_that_is_down_has_no_deadline_and_no_breaker_brings_it_back(reopen: Open, clock: HandClock) -> None:
    reopen().register_node(a_node())
    clock.move(61)
    again = reopen()  # closing has let no time pass: nobody judged the node
    assert liveness_of(again) == {"node-1": "live"}
    clock.move(61)
    again.tick()
    again = reopen()
    again.host.hold_down(lambda _node_id: True)
    again.host.pace(5.0)
    for _ in range(100):
        clock.move(1)
        assert liveness_of(again) == {"node-1": "down"}


def fallen(place: Path, clock: HandClock) -> Path:
    """A registry whose one node is down."""
    with NodeRegistry(place, clock=clock, heartbeat_timeout_seconds=TIMEOUT_SECONDS) as registry:
        registry.register_node(a_node())
        clock.move(61)
        assert liveness_of(registry) == {"node-1": "down"}
    return place


@pytest.mark.parametrize("name", ["nodes.json", "nodes.db"])
def test_where_nobody_judges_silence_nobody_stays_down(tmp_path: Path, clock: HandClock, name: str) -> None:
    path = fallen(tmp_path / name, clock)
    with NodeRegistry(path, clock=clock) as patient:
        assert patient.count_nodes(only_healthy=True) == 1
        patient.admin.approve("node-1")
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:  # it was not heard meanwhile
        assert liveness_of(registry) == {"node-1": "down"}
    with NodeRegistry(path, clock=clock) as patient:
        patient.update_node_health("node-1", 1.0)
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        assert liveness_of(registry) == {"node-1": "live"}


@pytest.mark.parametrize("heard", [False, True])
def test_a_host_that_comes_to_judge_silence_comes_back_to_who_was_down(
    tmp_path: Path, clock: HandClock, *, heard: bool
) -> None:
    with NodeRegistry(fallen(tmp_path / "nodes.db", clock), clock=clock) as registry:
        assert liveness_of(registry) == {"node-1": "live"}
        registry.register_node(a_node(2))
        if heard:
            registry.update_node_health("node-1", 1.0)
        index = registry.events.last_index
        registry.host.pace(15.0)
        assert liveness_of(registry) == {"node-1": "live" if heard else "down", "node-2": "live"}
        told = [(event.node_id, event.details["to"]) for event in registry.events.after(index)]
        assert told == ([] if heard else [("node-1", "down")])


@pytest.mark.parametrize("name", ["nodes.json", "nodes.db"])
def test_a_node_that_left_after_it_was_down_comes_back_live(tmp_path: Path, clock: HandClock, name: str) -> None:
    path = fallen(tmp_path / name, clock)
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        registry.leave("node-1")
        registry.save()
        with closing(open_store(path, None, read_only=True)) as kept:  # what a kill after its return would find
            assert [row.is_down for row in kept.rows()] == [False]
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        assert liveness_of(registry) == {"node-1": "left"}
        registry.register_node(a_node())
        assert liveness_of(registry) == {"node-1": "live"}


VICTIM = """
import sys, time
from pathlib import Path
from registry_core import NodeRegistry
from registry_core.storage.open_store import open_store
from registry_core.testing import HandClock
from tests.support.builders import a_node

path, by_hand, clock = Path(sys.argv[1]), sys.argv[2] == "save()", HandClock()
registry = NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60)
for number in range(1, 5):
    registry.register_node(a_node(number))
registry.tick()
for seconds, heard in ((29, ("node-2", "node-3")), (29, ("node-2",)), (3, ("node-2",))):
    clock.move(seconds)
    for node_id in heard:
        registry.update_node_health(node_id)
# node-1 and node-4 are down, and a minute is over; all that follows comes within the next one
if by_hand:
    registry.save()
store = open_store(path, None, read_only=True)
while [row.columns.node_id for row in store.rows() if row.is_down] != ["node-1", "node-4"]:
    time.sleep(0.01)
    store.refresh()
registry.update_node_health("node-4")
clock.move(29)
registry.update_node_health("node-2")
registry.update_node_health("node-4")
print({node.id: str(node.liveness) for node in registry.list_nodes()}, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("name", "saved_by"), [("nodes.json", "save()"), ("nodes.db", "save()"), ("nodes.db", "the minute")]
)
def test_a_kill_loses_what_changed_since_the_last_save_and_no_more(
    tmp_path: Path, clock: HandClock, name: str, saved_by: str
) -> None:
    path = tmp_path / name
    command = [sys.executable, "-c", VICTIM, str(path), saved_by]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        told = victim.stdout.readline()
        victim.kill()
    assert told == "{'node-1': 'down', 'node-2': 'live', 'node-3': 'down', 'node-4': 'live'}\n"
    with NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=60) as registry:
        clock.move(29)  # node-3's fall is lost: it has its full time again. node-4's return is: its next report tells
        assert liveness_of(registry) == {"node-1": "down", "node-2": "live", "node-3": "live", "node-4": "down"}
        registry.update_node_health("node-4", 1.0)
        registry.update_node_health("node-2", 1.0)
        clock.move(31)
        assert liveness_of(registry) == {"node-1": "down", "node-2": "suspect", "node-3": "down", "node-4": "suspect"}


Step = tuple[str, int]
STEPS = st.one_of(
    st.tuples(st.just("report"), st.integers(1, 4)),
    st.tuples(st.just("register"), st.integers(1, 4)),
    st.tuples(st.just("leave"), st.integers(1, 4)),
    st.tuples(st.just("remove"), st.integers(1, 4)),
    st.tuples(st.just("silence"), st.integers(1, 90)),
    st.tuples(st.just("save"), st.just(0)),
    st.tuples(st.just("restart"), st.integers(0, 10_000)),
)


def take(registry: NodeRegistry, clock: HandClock, step: Step) -> None:
    kind, number = step
    if kind == "silence":
        clock.move(number)
        registry.tick()
    elif kind == "save":
        registry.save()
    elif kind == "register":
        registry.register_node(a_node(number))
    elif kind == "remove":
        registry.deregister_node(f"node-{number}")
    elif registry.get_node(f"node-{number}") is not None:
        (registry.leave if kind == "leave" else registry.update_node_health)(f"node-{number}")


def restarted(registry: Optional[NodeRegistry], path: Path, clock: HandClock, seconds: float) -> NodeRegistry:
    """Closed, away for a while, opened again: and the law of that."""
    before = {} if registry is None else liveness_of(registry)
    if registry is not None:
        registry.close()
    clock.move(seconds)
    again = NodeRegistry(path, clock=clock, heartbeat_timeout_seconds=TIMEOUT_SECONDS)
    for silent_seconds in (0.0, 29.0):  # who was not down has its full time again
        clock.move(silent_seconds)
        after = liveness_of(again)
        expected = {node_id: state if state in ("down", "left") else "live" for node_id, state in before.items()}
        assert after == expected
        ready = {node.id for node in again.list_nodes(only_healthy=True)}
        assert ready == {node_id for node_id, state in after.items() if state == "live"}
    return again


@pytest.mark.parametrize("name", ["nodes.json", "nodes.db"])
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_whatever_happened_a_restart_keeps_who_is_down_and_takes_nobody_else_down(name: str, steps: list[Step]) -> None:
    clock = HandClock()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        registry = restarted(None, path, clock, 0)
        for step in [*steps, ("restart", 1)]:
            if step[0] == "restart":
                registry = restarted(registry, path, clock, step[1])
            else:
                take(registry, clock, step)
        registry.close()
