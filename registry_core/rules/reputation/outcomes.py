"""How one reported outcome changes a node's evidence: a task, a measured performance or a rating by another node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation.evidence import EvidenceState, forgetting_sum
from registry_core.rules.reputation.policy import (
    AVAILABILITY,
    CORRECTNESS,
    DEFAULT_POLICY,
    PERFORMANCE,
    ReputationPolicy,
)

__all__ = ["Outcome", "correctness_of", "record", "with_rating_batch"]


@dataclass(frozen=True)
class Outcome:
    """One reported outcome: the arguments of `update_node_reputation`.

    `weight` (above 0, at most the policy's `most_weight`): a result proven wrong weighs 5, a timeout 1. With `task_id`
    the task counts once. `rater` is the node whose opinion this is; None is first-hand, verified evidence.
    """

    success: bool
    task_id: Optional[str] = None
    dimension: str = CORRECTNESS
    weight: float = 1.0
    rater: Optional[str] = None

    def checked(self, policy: ReputationPolicy = DEFAULT_POLICY) -> Outcome:
        """The same outcome if it is valid; otherwise raises ValidationError."""
        limits.boolean("task_success", self.success)
        if self.task_id is not None and not _is_task_id(self.task_id):
            raise ValidationError("task_id", self.task_id, "must be text of 1 to 256 characters")
        if limits.number("weight", self.weight, 0.0, policy.most_weight) == 0.0:
            raise ValidationError("weight", self.weight, f"must be above 0 and at most {policy.most_weight:g}")
        if self.dimension == AVAILABILITY:
            raise ValidationError("dimension", self.dimension, "cannot be reported; the registry observes it itself")
        if self.dimension not in (CORRECTNESS, PERFORMANCE):
            raise ValidationError("dimension", self.dimension, f"must be {CORRECTNESS} or {PERFORMANCE}")
        if self.rater is not None:
            limits.identifier("rater", self.rater)
            if self.dimension != CORRECTNESS:
                raise ValidationError("rater", self.rater, f"can only rate {CORRECTNESS}")
        return self


_NOTHING = Evidence()


def _is_task_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def record(
    state: EvidenceState,
    outcome: Outcome,
    at_seconds: float,
    policy: ReputationPolicy = DEFAULT_POLICY,
    rater_weights: Mapping[str, float] = FrozenMap(),
) -> EvidenceState:
    """The evidence after `outcome` at this Unix time; the same object if its task was counted before.

    The order of outcomes of the same time has no effect. `rater_weights`, from the last rating batch, decide which
    rater is dropped first when a node has too many. Raises ValidationError.
    """
    outcome.checked(policy)
    if outcome.rater is not None:
        return _with_rating(state, outcome, at_seconds, policy, rater_weights)
    if outcome.task_id is not None:
        counted = f"{outcome.dimension}:{outcome.task_id}"
        if counted in state.tasks:
            return state
        state = replace(state, tasks=state.tasks.with_task(counted, at_seconds, policy))
    new = evidence_of(outcome.weight, 0.0) if outcome.success else evidence_of(0.0, outcome.weight)
    if outcome.dimension == PERFORMANCE:
        return replace(state, performance=forgetting_sum(state.performance, new, policy.performance_kept))
    settled = state.settled
    batch = state.open_batch
    if at_seconds > state.open_at_seconds:
        settled = forgetting_sum(settled, batch, policy.correctness_kept)
        batch = _NOTHING
    return replace(
        state,
        settled=settled,
        open_batch=evidence_of(batch.successes + new.successes, batch.failures + new.failures),
        open_at_seconds=max(at_seconds, state.open_at_seconds),
        verified_tasks=state.verified_tasks + (min(1.0, outcome.weight) if outcome.success else 0.0),
        failed_since_standing=state.failed_since_standing or not outcome.success,
    )


def correctness_of(state: EvidenceState, policy: ReputationPolicy = DEFAULT_POLICY) -> Evidence:
    """First-hand evidence of correctness, including the open batch."""
    return forgetting_sum(state.settled, state.open_batch, policy.correctness_kept)


def with_rating_batch(state: EvidenceState, ratings: Evidence) -> EvidenceState:
    """The evidence with the node's result of a rating batch; the same object if nothing changed."""
    return state if ratings == state.ratings else replace(state, ratings=ratings)


def _with_rating(
    state: EvidenceState,
    outcome: Outcome,
    at_seconds: float,
    policy: ReputationPolicy,
    rater_weights: Mapping[str, float],
) -> EvidenceState:
    """The evidence with one rating per rater, the latest; it counts from the next rating batch on."""
    value = min(1.0, outcome.weight) * (1.0 if outcome.success else -1.0)
    raters = dict(state.raters)
    raters[str(outcome.rater)] = (value, at_seconds)
    while len(raters) > policy.ratings_per_node:
        del raters[min(raters, key=lambda rater: (rater_weights.get(rater, 0.0), raters[rater][1], rater))]
    return replace(state, raters=FrozenMap(raters))
