"""Automatic changes of admission: a table of states and findings from the evidence; without a row nothing changes.

An operator's decision has priority: callers do not apply the table to a node whose standing an operator has set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from registry_core.models.status import Admission
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.policy import DEFAULT_POLICY, ReputationPolicy
from registry_core.rules.reputation.scoring import judged_correctness

__all__ = ["STANDING_TABLE", "StandingChange", "findings", "next_standing", "with_standing"]

_DAY_SECONDS = 86_400.0

FAILING = "failing"
INCORRIGIBLE = "incorrigible"
PROVEN = "proven"
SERVED = "served"

#: (standing, required findings, new standing, reason); the first matching row applies
STANDING_TABLE: tuple[tuple[Admission, tuple[str, ...], Admission, str], ...] = (
    (Admission.PROBATION, (FAILING, INCORRIGIBLE), Admission.BANNED, "it failed again after too many suspensions"),
    (Admission.PROBATION, (FAILING,), Admission.SUSPENDED, "too many of its verified results failed"),
    (Admission.PROBATION, (PROVEN,), Admission.APPROVED, "it completed enough verified tasks over enough days"),
    (Admission.APPROVED, (FAILING, INCORRIGIBLE), Admission.BANNED, "it failed again after too many suspensions"),
    (Admission.APPROVED, (FAILING,), Admission.SUSPENDED, "too many of its verified results failed"),
    (Admission.SUSPENDED, (SERVED,), Admission.PROBATION, "its suspension ended"),
)


@dataclass(frozen=True)
class StandingChange:
    """A node's new standing, and the reason for people."""

    to: Admission
    reason: str


def findings(state: EvidenceState, now_seconds: float, policy: ReputationPolicy = DEFAULT_POLICY) -> Mapping[str, bool]:
    """The findings of the table, from the evidence at this Unix time."""
    judged = judged_correctness(state, policy)
    mean = (1.0 + judged.successes) / (2.0 + judged.weight)
    known_since = now_seconds if state.first_seen_seconds is None else state.first_seen_seconds
    term = policy.suspension_days * 2.0 ** max(0, min(state.suspensions, 20) - 1)
    return {
        FAILING: state.failed_since_standing
        and judged.weight >= policy.suspension_evidence - 0.5  # forgetting reduces each unit a little
        and mean <= policy.suspension_mean,
        INCORRIGIBLE: state.suspensions >= policy.suspensions_before_ban,
        PROVEN: state.verified_tasks >= policy.approval_tasks
        and now_seconds - known_since >= policy.approval_days * _DAY_SECONDS
        and mean >= policy.approval_mean,
        SERVED: now_seconds - state.suspended_at_seconds >= term * _DAY_SECONDS,
    }


def next_standing(
    current: Admission, state: EvidenceState, now_seconds: float, policy: ReputationPolicy = DEFAULT_POLICY
) -> Optional[StandingChange]:
    """The change that the table requires, or None. Only operators change pending and banned nodes."""
    found = findings(state, now_seconds, policy)
    for standing, conditions, to, reason in STANDING_TABLE:
        if standing is current and all(found[condition] for condition in conditions):
            return StandingChange(to, reason)
    return None


def with_standing(state: EvidenceState, change: StandingChange, now_seconds: float) -> EvidenceState:
    """The evidence after a change of standing: suspensions are counted, and earlier failures no longer suspend."""
    if change.to is Admission.SUSPENDED:
        return replace(
            state,
            suspensions=state.suspensions + 1,
            suspended_at_seconds=now_seconds,
            failed_since_standing=False,
        )
    return replace(state, failed_since_standing=False)
