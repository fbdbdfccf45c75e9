"""Reputation as the registry keeps it: the same in memory and in files, over restarts, departures and operators."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from registry_core import Node, NodeRegistry
from registry_core.errors import ValidationError
from registry_core.models.status import Admission


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["nodes.json", "nodes.db"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def registry(path: Path, clock: Clock) -> Iterator[NodeRegistry]:
    with NodeRegistry(persistence_path=path, clock=clock) as opened:
        opened.register_node(Node("192.0.2.1", id="a"))
        yield opened


def _work(registry: NodeRegistry, clock: Clock, successes: int, node_id: str = "a") -> None:
    for _ in range(successes):
        clock.seconds += 60
        registry.update_node_reputation(node_id, True)


def _admission(registry: NodeRegistry, node_id: str = "a") -> Admission:
    node = registry.get_node(node_id)
    assert node is not None
    return node.admission


def test_a_task_with_an_id_counts_once_after_a_restart_too(registry: NodeRegistry, path: Path, clock: Clock) -> None:
    first = registry.update_node_reputation("a", True, task_id="job-1")
    assert registry.update_node_reputation("a", True, task_id="job-1") == first
    registry.close()
    with NodeRegistry(persistence_path=path, clock=clock) as again:
        assert again.update_node_reputation("a", True, task_id="job-1") == first
        assert again.update_node_reputation("a", True, task_id="job-2").score > first.score


def test_a_restart_changes_no_score_and_no_later_score(registry: NodeRegistry, path: Path, clock: Clock) -> None:
    def history(opened: NodeRegistry, node_id: str) -> None:
        for index in range(12):
            clock.seconds += 30 * (index % 3)
            opened.update_node_reputation(node_id, index % 4 != 0, weight=1.0 + index % 3, task_id=f"t{index}")

    registry.register_node(Node("192.0.2.2", id="b"))
    history(registry, "a")
    whole = registry.get_reputation("a")
    clock.seconds = 0.0
    registry.update_node_reputation("b", False, weight=1.0, task_id="t0")
    registry.close()
    for index in range(1, 12):
        clock.seconds += 30 * (index % 3)
        with NodeRegistry(persistence_path=path, clock=clock) as opened:
            opened.update_node_reputation("b", index % 4 != 0, weight=1.0 + index % 3, task_id=f"t{index}")
    with NodeRegistry(persistence_path=path, clock=clock) as opened:
        assert opened.get_reputation("a") == whole
        assert opened.get_reputation("b").score == whole.score
        assert opened.get_reputation("b").evidence == whole.evidence


def test_a_node_that_leaves_and_comes_back_finds_what_it_left(registry: NodeRegistry, path: Path, clock: Clock) -> None:
    for _ in range(3):
        registry.update_node_reputation("a", False, weight=5.0)
    left = registry.get_reputation("a")
    assert left.standing is Admission.SUSPENDED
    registry.deregister_node("a")
    registry.register_node(Node("192.0.2.9", id="b"))
    registry.register_node(Node("192.0.2.1", id="a"))
    assert registry.get_reputation("a").score == left.score
    assert registry.get_reputation("a").evidence == left.evidence
    assert _admission(registry) is Admission.SUSPENDED
    assert _admission(registry, "b") is Admission.PROBATION
    registry.deregister_node("a")
    registry.close()
    with NodeRegistry(persistence_path=path, clock=clock) as again:
        again.register_node(Node("192.0.2.1", id="a"))
        assert _admission(again) is Admission.SUSPENDED
        again.deregister_node("b")
        again.register_node(Node("192.0.2.9", id="b"))
        assert again.get_reputation("b").score == pytest.approx(0.25)


def test_leaving_and_coming_back_within_one_batch_gains_nothing(registry: NodeRegistry, clock: Clock) -> None:
    _work(registry, clock, 4)
    before = registry.get_reputation("a").score
    with registry.batch():
        registry.deregister_node("a")
        registry.register_node(Node("192.0.2.1", id="a"))
    assert registry.get_reputation("a").score == before


def test_standing_rises_with_work_and_time_and_an_event_says_so(registry: NodeRegistry, clock: Clock) -> None:
    _work(registry, clock, 25)
    assert _admission(registry) is Admission.PROBATION
    clock.seconds = 8 * 86_400.0
    index = registry.events.last_index
    _work(registry, clock, 1)
    assert _admission(registry) is Admission.APPROVED
    told = [event.details for event in registry.events.after(index) if event.kind.value == "admission"]
    assert [(details["to"], details["actor"]) for details in told] == [("approved", "policy")]


def test_a_suspension_ends_by_time_when_the_node_registers(registry: NodeRegistry, clock: Clock) -> None:
    for _ in range(2):
        registry.update_node_reputation("a", False, weight=5.0)
    assert _admission(registry) is Admission.SUSPENDED
    clock.seconds = 6 * 86_400.0
    registry.register_node(Node("192.0.2.1", id="a"))
    assert _admission(registry) is Admission.SUSPENDED
    clock.seconds = 8 * 86_400.0
    registry.register_node(Node("192.0.2.1", id="a"))
    assert _admission(registry) is Admission.PROBATION
    registry.update_node_reputation("a", False)
    assert _admission(registry) is Admission.SUSPENDED


def test_an_operators_decision_wins_until_it_is_handed_back(registry: NodeRegistry, path: Path, clock: Clock) -> None:
    registry.admin.approve("a", actor="ann")
    registry.close()
    with NodeRegistry(persistence_path=path, clock=clock) as again:
        for _ in range(4):
            again.update_node_reputation("a", False, weight=5.0)
        assert _admission(again) is Admission.APPROVED
        again.admin.put_on_probation("a", actor="ann")
        again.update_node_reputation("a", False)
        assert _admission(again) is Admission.SUSPENDED


def test_a_newcomers_results_are_all_checked_and_a_proven_nodes_few(registry: NodeRegistry, clock: Clock) -> None:
    assert registry.audit_probability("a") == 1.0
    with registry.batch():
        _work(registry, clock, 400)
    assert registry.audit_probability("a") == 0.02


def test_bad_outcomes_are_refused_and_change_nothing(registry: NodeRegistry) -> None:
    before = registry.get_reputation("a")
    for wrong in ({"weight": 0.0}, {"weight": 6.0}, {"dimension": "availability"}, {"rater": "a"}, {"task_id": ""}):
        with pytest.raises(ValidationError):
            registry.update_node_reputation("a", True, **wrong)
    assert registry.get_reputation("a") == before


def test_evidence_edited_by_hand_wins_over_the_history(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "nodes.json"
    with NodeRegistry(persistence_path=path, clock=clock) as registry:
        registry.register_node(Node("192.0.2.1", id="a"))
        registry.update_node_reputation("a", True)
    text = path.read_text()
    assert '"successes": 1.0' in text
    path.write_text(text.replace('"successes": 1.0', '"successes": 40.0'))
    with NodeRegistry(persistence_path=path, clock=clock) as registry:
        assert registry.get_reputation("a").evidence["correctness"].successes == 40.0
        assert registry.update_node_reputation("a", True).evidence["correctness"].successes == pytest.approx(40.96)


def test_ratings_count_once_they_are_weighed_by_trust(registry: NodeRegistry, clock: Clock) -> None:
    for name in ("seed", "honest", "ring1", "ring2"):
        registry.register_node(Node("192.0.2.7", id=name))
    for node_id in ("a", "ring1"):
        _work(registry, clock, 12, node_id)
    registry.update_node_reputation("honest", True, rater="seed")
    registry.update_node_reputation("a", False, rater="honest")
    for liar, friend in (("ring1", "ring2"), ("ring2", "ring1")):
        registry.update_node_reputation(friend, True, rater=liar)
        registry.update_node_reputation("honest", False, rater=liar)
    before = registry.get_reputation("a").score, registry.get_reputation("ring1").score
    assert registry.host.weigh_ratings(["seed"]) == 2
    assert registry.get_reputation("a").score < before[0]
    assert registry.get_reputation("ring1").score == before[1]
    node = registry.get_node("a")
    assert node is not None
    assert node.reputation == round(registry.get_reputation("a").score, 2)
    assert registry.host.weigh_ratings(["seed"]) == 0
    registry.update_node_reputation("a", True, rater="honest")
    assert registry.host.weigh_ratings(["seed"]) == 1
    assert registry.get_reputation("a").score > before[0]
    with pytest.raises(ValidationError):
        registry.host.weigh_ratings([])
