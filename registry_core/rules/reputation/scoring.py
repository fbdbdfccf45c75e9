"""From evidence to a score.

Here: how the lower bounds of the dimensions become one number. Not here: how evidence is gathered and forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

from registry_core.models.frozen_map import FrozenMap
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission
from registry_core.rules.reputation.beta import BOUND, lower_bound

__all__ = ["NEWCOMER", "NEWCOMER_SCORE", "after_task", "score"]

NEWCOMER_SCORE = 5.0 * BOUND
"""The score of a node about which nothing is known, and the least that any listed node has."""

NEWCOMER = Reputation(score=NEWCOMER_SCORE, posterior_mean=0.5, reasons=("no task has been verified yet",))


def after_task(evidence: Evidence, task_success: bool, *, weight: float = 1.0) -> Evidence:
    """The evidence of correctness after one more verified outcome of this weight (> 0)."""
    if task_success:
        return Evidence(evidence.successes + weight, evidence.failures)
    return Evidence(evidence.successes, evidence.failures + weight)


def score(evidence: Mapping[str, Evidence], standing: Admission = Admission.PROBATION) -> Reputation:
    """The reputation that follows from `evidence` by dimension: 5 × the 5 % quantile of Beta(1 + s, 1 + f)."""
    tasks = evidence.get("correctness", Evidence())
    least = lower_bound(tasks.successes, tasks.failures)
    return Reputation(
        score=max(5.0 * least, NEWCOMER_SCORE),
        posterior_mean=(1.0 + tasks.successes) / (2.0 + tasks.weight),
        evidence=FrozenMap(evidence),
        standing=standing,
        reasons=(f"{tasks.successes:g} of {tasks.weight:g} verified tasks succeeded",)
        if tasks.weight > 0.0
        else NEWCOMER.reasons,
    )
