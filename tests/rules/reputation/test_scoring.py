"""Scores, standing and the rest as tables of numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry_core.errors import ValidationError
from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence
from registry_core.models.status import Admission
from registry_core.rules.reputation import (
    DEFAULT_POLICY,
    CountedTasks,
    EvidenceState,
    HourObserved,
    Outcome,
    ReputationPolicy,
    audit_probability,
    correctness_of,
    draw,
    evidence_from_ratings,
    expected_uptime,
    explored,
    network_mean,
    next_standing,
    record,
    reputation_of,
    with_hour,
    with_standing,
)

DAY = 86_400.0
NEW = EvidenceState()


def _tasks(successes: int, failures: int = 0, weight: float = 1.0, state: EvidenceState = NEW) -> EvidenceState:
    for index in range(successes + failures):
        success = index < successes
        state = record(state, Outcome(success, weight=1.0 if success else weight), 1000.0 + index)
    return state


def _hours(count: int, live: float = 1.0, state: EvidenceState = NEW) -> EvidenceState:
    for _ in range(count):
        state = with_hour(state, HourObserved(live, 1.0, live > 0))
    return state


@pytest.mark.parametrize(("successes", "score"), [(0, 0.25), (5, 3.03), (10, 3.80), (20, 4.33)])
def test_clean_tasks_reach_the_documented_scores(successes: int, score: float) -> None:
    assert reputation_of(_tasks(successes)).score == pytest.approx(score, abs=0.006)


def test_availability_counts_from_a_whole_day_on() -> None:
    state = _tasks(10)
    before = reputation_of(state).score
    assert reputation_of(_hours(23, 0.0, state)).score == before
    assert reputation_of(_hours(24, 0.0, state)).score < before - 1.0
    assert reputation_of(_hours(24, 1.0, state)).score > before - 0.4


def test_no_dimension_buys_out_another() -> None:
    always_there_and_always_wrong = _hours(500, 1.0, _tasks(0, 30))
    assert reputation_of(always_there_and_always_wrong).score < 1.0
    always_right_and_never_there = _hours(500, 0.0, _tasks(200))
    assert reputation_of(always_right_and_never_there).score < 1.7


def test_time_in_which_nobody_could_be_judged_counts_for_nobody() -> None:
    state = _hours(30, 1.0)
    assert with_hour(state, HourObserved(0.0, observed_share=0.0)) is state


def test_a_proven_wrong_result_weighs_five() -> None:
    one = correctness_of(record(EvidenceState(), Outcome(False, weight=5.0), 1.0))
    assert one.failures == pytest.approx(5.0, abs=0.02)
    with pytest.raises(ValidationError, match="weight"):
        record(EvidenceState(), Outcome(False, weight=5.1), 1.0)


def test_an_old_fault_fades_by_evidence_and_not_by_time() -> None:
    failed = record(EvidenceState(), Outcome(False), 1.0)
    assert correctness_of(failed).failures == 1.0
    later = record(failed, Outcome(True), 1e9)
    assert correctness_of(later).failures == pytest.approx(0.999)
    assert correctness_of(_tasks(2000, state=failed)).failures < 0.2


def test_a_task_counts_once_while_it_is_remembered() -> None:
    once = record(EvidenceState(), Outcome(True, task_id="job-1"), 1.0)
    assert record(once, Outcome(True, task_id="job-1"), 2.0) is once
    assert record(once, Outcome(True, task_id="job-2"), 2.0) is not once
    assert record(once, Outcome(True), 2.0) is not once


def test_task_ids_are_forgotten_by_number_and_by_age() -> None:
    seen = CountedTasks()
    for index in range(1500):
        seen = seen.with_task(f"t{index}", index * 600.0)
    assert len(seen) == 1024
    assert "t1499" in seen
    assert "t400" not in seen
    assert len(seen.with_task("late", 45 * DAY)) == 1
    stepped_back = seen.with_task("back", 0.0)
    assert "back" in stepped_back
    assert stepped_back.days == tuple(sorted(stepped_back.days))
    assert EvidenceState.from_plain({"tasks": stepped_back.to_plain()}).tasks == stepped_back


def test_others_ratings_are_at_most_a_quarter_of_the_evidence() -> None:
    state = _tasks(30)
    slandered = replace(state, ratings=Evidence(0.0, 1000.0))
    judged = reputation_of(slandered).evidence["correctness"]
    assert judged.failures / judged.weight == pytest.approx(0.25, abs=0.01)
    assert reputation_of(replace(EvidenceState(), ratings=Evidence(1000.0, 0.0))).score == 0.25


def test_the_least_trusted_raters_are_forgotten_first() -> None:
    policy = ReputationPolicy(ratings_per_node=3)
    state = EvidenceState()
    weights = {"honest": 0.9}
    state = record(state, Outcome(True, rater="honest"), 1.0, policy, weights)
    for index in range(10):
        state = record(state, Outcome(False, rater=f"sybil{index}"), 2.0 + index, policy, weights)
    assert set(state.raters) == {"honest", "sybil8", "sybil9"}
    assert state.raters["honest"] == (1.0, 1.0)


def test_a_rating_speaks_of_correctness_only_and_availability_is_not_reported() -> None:
    with pytest.raises(ValidationError, match="rater"):
        record(EvidenceState(), Outcome(True, rater="a", dimension="performance"), 1.0)
    with pytest.raises(ValidationError, match="the registry observes it itself"):
        record(EvidenceState(), Outcome(True, dimension="availability"), 1.0)
    with pytest.raises(ValidationError, match="dimension"):
        record(EvidenceState(), Outcome(True, dimension="charm"), 1.0)


def test_a_rating_beyond_the_scale_and_a_batch_without_seeds_are_refused() -> None:
    with pytest.raises(ValidationError, match="seeds"):
        evidence_from_ratings([("a", "b", 1.0)], [])
    with pytest.raises(ValidationError, match="rating of b by a"):
        evidence_from_ratings([("a", "b", float("nan"))], ["a"])


_known = EvidenceState(first_seen_seconds=0.0)
_good = _tasks(20, state=_known)
_bad = _tasks(0, 10, state=_known)
_third = replace(_bad, suspensions=3)


@pytest.mark.parametrize(
    ("standing", "state", "days", "to"),
    [
        (Admission.PROBATION, _good, 7, Admission.APPROVED),
        (Admission.PROBATION, _good, 6.9, None),
        (Admission.PROBATION, _tasks(19, state=_known), 30, None),
        (Admission.PROBATION, _tasks(20, 8, state=_known), 30, None),
        (Admission.PROBATION, _bad, 1, Admission.SUSPENDED),
        (Admission.PROBATION, _tasks(0, 9, state=_known), 1, None),
        (Admission.APPROVED, _tasks(0, 2, 5.0, _known), 1, Admission.SUSPENDED),
        (Admission.APPROVED, _tasks(40, 2, 5.0, _known), 1, None),
        (Admission.APPROVED, _third, 1, Admission.BANNED),
        (Admission.SUSPENDED, with_standing(_bad, next_standing(Admission.APPROVED, _bad, 0.0), 0.0), 6, None),  # type: ignore[arg-type]  # the row above gives it
        (Admission.SUSPENDED, replace(_bad, suspensions=1), 7, Admission.PROBATION),
        (Admission.SUSPENDED, replace(_bad, suspensions=2), 13, None),
        (Admission.SUSPENDED, replace(_bad, suspensions=2), 14, Admission.PROBATION),
        (Admission.PENDING, _good, 30, None),
        (Admission.BANNED, _good, 3000, None),
    ],
)
def test_standing_moves_by_the_table(standing: Admission, state: EvidenceState, days: float, to: Admission) -> None:
    change = next_standing(standing, state, days * DAY)
    assert (change.to if change else None) is to


def test_nobody_is_suspended_twice_for_one_fault() -> None:
    change = next_standing(Admission.APPROVED, _bad, DAY)
    assert change is not None
    suspended = with_standing(_bad, change, DAY)
    assert suspended.suspensions == 1
    released = next_standing(Admission.SUSPENDED, suspended, 9 * DAY)
    assert released is not None
    back = with_standing(suspended, released, 9 * DAY)
    assert next_standing(Admission.PROBATION, back, 9 * DAY) is None
    again = record(back, Outcome(False), 9 * DAY)
    assert next_standing(Admission.PROBATION, again, 9 * DAY) is not None


def test_expected_uptime_follows_the_windows_and_the_horizon() -> None:
    steady = _hours(240)
    flaky = EvidenceState()
    for hour in range(240):
        flaky = with_hour(flaky, HourObserved(0.5 if hour % 6 == 3 else 1.0))
    assert expected_uptime(EvidenceState(), 6.0, 0.93) == pytest.approx(0.93)
    assert expected_uptime(steady, 6.0, 0.93) > 0.97
    assert expected_uptime(flaky, 6.0, 0.93) < 0.25
    assert expected_uptime(steady, 12.0) == pytest.approx(expected_uptime(steady, 6.0) ** 2)
    assert expected_uptime(flaky, 0.0) == 1.0


def test_no_window_begins_while_a_node_is_not_live() -> None:
    state = EvidenceState()
    for _ in range(50):
        state = with_hour(state, HourObserved(0.0, 1.0, live_at_start=False))
    assert state.uptime == Evidence()
    assert state.availability.failures > 4


def test_a_network_without_history_has_the_policys_mean() -> None:
    assert network_mean([]) == DEFAULT_POLICY.availability_prior_mean
    assert network_mean([Evidence(0.0, 1000.0)]) < 0.01


def test_a_newcomer_is_always_checked_and_the_best_still_sometimes() -> None:
    assert audit_probability(EvidenceState()) == 1.0
    assert audit_probability(_tasks(1000)) == 0.02
    chances = [audit_probability(_tasks(count)) for count in (20, 40, 80, 160)]
    assert chances == sorted(chances, reverse=True)


def test_exploring_gives_newcomers_their_share_and_loses_nobody() -> None:
    best = [f"b{index}" for index in range(4000)]
    new = [f"n{index}" for index in range(4000)]
    order = list(explored(best, new, "seed", 0.05))
    assert sorted(order) == sorted(best + new)
    assert [item for item in order if item[0] == "b"] == best
    share = sum(item[0] == "n" for item in order[:4000]) / 4000
    assert share == pytest.approx(0.05, abs=0.015)
    assert order == list(explored(best, new, "seed", 0.05))
    assert order != list(explored(best, new, "another", 0.05))
    assert list(explored(best[:3], [], "s", 0.5)) == best[:3]
    assert draw("a", 1) == draw("a", 1)


def test_explanations_are_sentences_about_what_counted() -> None:
    state = _hours(30, 1.0, _tasks(8, 1))
    reasons = reputation_of(replace(state, ratings=Evidence(1.0, 2.0))).reasons
    assert any("weighted task outcomes succeeded" in reason for reason in reasons)
    assert any("observed for 30.0 h" in reason for reason in reasons)
    assert any("other nodes' ratings" in reason for reason in reasons)
    assert reputation_of(_tasks(0, 9)).reasons[-1].startswith("a newcomer's score is the lowest")
    for count, words in ((1, "1 rating by"), (2, "2 ratings by")):
        raters = FrozenMap({f"rater-{number}": (1.0, 0.0) for number in range(count)})
        assert any(reason.startswith(words) for reason in reputation_of(replace(state, raters=raters)).reasons)


@pytest.mark.parametrize(
    ("plain", "field"),
    [
        ([], "evidence"),
        ({"nonsense": 1}, "evidence.nonsense"),
        ({"settled": [1]}, "evidence.settled"),
        ({"settled": [-1, 0]}, "evidence.settled"),
        ({"verified_tasks": float("nan")}, "evidence.verified_tasks"),
        ({"suspensions": 1.5}, "evidence.suspensions"),
        ({"window_intact": 1}, "evidence.window_intact"),
        ({"tasks": [[1, "short"]]}, "evidence.tasks"),
        ({"raters": {"a b": [1, 2]}}, "evidence.raters"),
    ],
)
def test_damaged_evidence_is_refused_by_name(plain: object, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EvidenceState.from_plain(plain)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "bad",
    [{"bound": 0.0}, {"correctness_kept": 1.0}, {"ratings_share": 0.9}, {"approval_mean": 0.5}, {"most_weight": 2.0}],
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ReputationPolicy(**bad)  # type: ignore[arg-type]  # the names above are all numbers
