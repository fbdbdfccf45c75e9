"""The laws of reputation, for any history."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.models.reputation import Evidence
from registry_core.models.status import Admission
from registry_core.rules.reputation import (
    DEFAULT_POLICY,
    EvidenceState,
    HourObserved,
    Outcome,
    Tombstone,
    evidence_from_ratings,
    record,
    reputation_of,
    starting_record,
    with_hour,
)

NEW = EvidenceState()

_outcomes = st.builds(
    Outcome,
    success=st.booleans(),
    weight=st.floats(min_value=0.01, max_value=5.0),
    dimension=st.sampled_from(["correctness", "correctness", "performance"]),
    task_id=st.one_of(st.none(), st.text(min_size=1, max_size=8)),
)
_hours = st.builds(
    HourObserved,
    live_share=st.sampled_from([0.0, 0.4, 1.0]),
    observed_share=st.sampled_from([0.0, 0.5, 1.0]),
    live_at_start=st.booleans(),
)
_events = st.lists(st.tuples(st.integers(min_value=0, max_value=3), st.one_of(_outcomes, _hours)), max_size=40)
_ratings = st.builds(Evidence, st.floats(min_value=0, max_value=300), st.floats(min_value=0, max_value=300))


def _after(events: list[tuple[int, object]], state: EvidenceState = NEW) -> tuple[EvidenceState, float]:
    now = 1_000_000.0
    for elapsed, event in events:
        now += elapsed * 1800
        if isinstance(event, Outcome):
            state = record(state, event, now)
        else:
            assert isinstance(event, HourObserved)
            state = with_hour(state, event)
    return state, now


@settings(max_examples=120)
@given(_events, _ratings, st.integers(min_value=0, max_value=1), st.floats(min_value=0.01, max_value=5.0))
def test_a_success_never_lowers_and_a_failure_never_raises_a_score(
    events: list[tuple[int, object]], ratings: Evidence, later: int, weight: float
) -> None:
    state, now = _after(events)
    state = replace(state, ratings=ratings)
    before = reputation_of(state).score
    assert reputation_of(record(state, Outcome(True, weight=weight), now + later)).score >= before - 1e-9
    without = replace(state, ratings=Evidence())
    failed = record(without, Outcome(False, weight=weight), now + later)
    assert reputation_of(failed).score <= reputation_of(without).score + 1e-9


@settings(max_examples=120)
@given(_events, _events, _ratings)
def test_a_restart_between_any_two_events_changes_nothing(
    before: list[tuple[int, object]], after: list[tuple[int, object]], ratings: Evidence
) -> None:
    state, _ = _after(before)
    state = replace(record(state, Outcome(True, rater="n1other"), 5.0), ratings=ratings, first_seen_seconds=17.25)
    reread = EvidenceState.from_plain(json.loads(json.dumps(state.to_plain())))
    assert reread == state
    assert _after(after, reread) == _after(after, state)


@settings(max_examples=80)
@given(st.lists(_outcomes.filter(lambda o: o.dimension == "correctness"), max_size=25), st.randoms())
def test_the_order_of_outcomes_of_equal_time_does_not_matter(outcomes: list[Outcome], rng: random.Random) -> None:
    shuffled = [replace(outcome, task_id=None) for outcome in outcomes]
    first, _ = _after([(0, outcome) for outcome in shuffled])
    rng.shuffle(shuffled)
    second, _ = _after([(0, outcome) for outcome in shuffled])
    assert reputation_of(first).score == pytest.approx(reputation_of(second).score, rel=1e-9)


@settings(max_examples=120)
@given(_events, _ratings)
def test_no_history_scores_below_a_newcomer_or_above_five(events: list[tuple[int, object]], ratings: Evidence) -> None:
    state, _ = _after(events)
    score = reputation_of(replace(state, ratings=ratings)).score
    assert DEFAULT_POLICY.newcomer_score <= score < 5.0


@settings(max_examples=120)
@given(_events, _events)
def test_a_returning_identity_never_outranks_what_it_left(
    left: list[tuple[int, object]], sibling: list[tuple[int, object]]
) -> None:
    gone = Tombstone(_after(left)[0], Admission.SUSPENDED)
    other = Tombstone(_after(sibling)[0], Admission.APPROVED)
    fresh = Tombstone(EvidenceState(first_seen_seconds=9e6))
    same_key = starting_record(gone, [other], newcomer=fresh)
    same_wallet = starting_record(None, [gone, other], newcomer=fresh)
    stranger = starting_record(None, newcomer=fresh)
    assert same_key == gone
    assert reputation_of(same_wallet.evidence).score <= reputation_of(gone.evidence).score
    assert same_wallet.standing is Admission.SUSPENDED
    assert same_wallet.evidence.verified_tasks == 0
    assert stranger == fresh


@settings(max_examples=120)
@given(st.lists(st.sampled_from([0.2, 0.5, 1.0]), min_size=1, max_size=12), st.sampled_from([0.0, 0.3, 1.0]))
def test_an_hour_in_pieces_gives_what_the_whole_hour_gives(pieces: list[float], live: float) -> None:
    together = with_hour(EvidenceState(), HourObserved(live, 1.0))
    parts = EvidenceState()
    for piece in pieces:
        parts = with_hour(parts, HourObserved(live, piece / sum(pieces)))
    assert parts.availability.successes == pytest.approx(together.availability.successes)
    assert parts.availability.failures == pytest.approx(together.availability.failures)


_edges = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=9).map(str),
        st.integers(min_value=0, max_value=9).map(str),
        st.sampled_from([-1.0, -0.3, 0.1, 1.0]),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(_edges, st.randoms())
def test_a_raters_whole_influence_is_bounded_by_its_trust(
    edges: list[tuple[str, str, float]], rng: random.Random
) -> None:
    seeds = ["0", "1", "2", "3", "4"]
    edges = [edge for edge in edges if edge[0] != edge[1]]
    batch = evidence_from_ratings(edges, seeds)
    assert sum(batch.trust.values()) == pytest.approx(1.0, abs=1e-6)
    for rater in {edge[0] for edge in edges}:
        without = evidence_from_ratings([edge for edge in edges if edge[0] != rater], seeds)
        said = {(a, b): w for a, b, w in edges if a == rater}
        mine = batch.weights[rater] * sum(abs(value) for value in said.values())
        assert mine <= len(batch.trust) * batch.trust[rater] * len(said) ** 0.5 + 1e-9
        assert mine <= len(said)
        assert rater not in without.weights
    once = {(a, b): w for a, b, w in edges}  # order may only change which rating of a pair is the latest
    pairs = [(a, b, w) for (a, b), w in once.items()]
    rng.shuffle(pairs)
    assert evidence_from_ratings(pairs, seeds) == batch


@settings(max_examples=60)
@given(_edges)
def test_whom_no_trusted_node_praises_moves_nobody(edges: list[tuple[str, str, float]]) -> None:
    seeds = ["s1", "s2", "s3", "s4", "s5"]
    batch = evidence_from_ratings(edges, seeds)
    assert all(weight == 0.0 for weight in batch.weights.values())
    assert all(evidence.weight == 0.0 for evidence in batch.evidence.values())
