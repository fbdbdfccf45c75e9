"""From evidence to a score, with sentences that explain it: combines the lower bounds of the dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation.availability import prior_of_availability
from registry_core.rules.reputation.beta import beta_quantile
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.outcomes import correctness_of
from registry_core.rules.reputation.policy import (
    AVAILABILITY,
    CORRECTNESS,
    DEFAULT_POLICY,
    PERFORMANCE,
    ReputationPolicy,
)

__all__ = [
    "NEWCOMER_SCORE",
    "audit_probability",
    "bounds_of",
    "judged_correctness",
    "reputation_of",
]

NEWCOMER_SCORE = DEFAULT_POLICY.newcomer_score
"""The score of a node without evidence, which is also the lowest score of any node."""

_NO_TASK = "no task has been verified yet"


def reputation_of(
    state: EvidenceState,
    standing: Admission = Admission.PROBATION,
    network_live_mean: float = DEFAULT_POLICY.availability_prior_mean,
    policy: ReputationPolicy = DEFAULT_POLICY,
) -> Reputation:
    """The node's reputation: 5 × the weighted geometric mean of the lower bounds of all dimensions.

    The mean is geometric so that no dimension can make up for another. `network_live_mean` is the share of time in
    which the network's nodes are live (`network_mean` over their `availability`). The score is never below a
    newcomer's; standing distinguishes worse nodes.
    """
    bounds = bounds_of(state, network_live_mean, policy)
    share = sum(policy.exponents[name] for name in bounds)
    mean = prod(bound ** (policy.exponents[name] / share) for name, bound in bounds.items())
    judged = judged_correctness(state, policy)
    evidence = {CORRECTNESS: judged}
    if state.observed_hours > 0.0:
        evidence[AVAILABILITY] = state.availability
    if state.performance.weight > 0.0:
        evidence[PERFORMANCE] = state.performance
    return Reputation(
        score=max(5.0 * mean, policy.newcomer_score),
        posterior_mean=(1.0 + judged.successes) / (2.0 + judged.weight),
        evidence=FrozenMap(evidence),
        standing=standing,
        reasons=_reasons(state, bounds, 5.0 * mean, policy),
    )


def bounds_of(
    state: EvidenceState,
    network_live_mean: float = DEFAULT_POLICY.availability_prior_mean,
    policy: ReputationPolicy = DEFAULT_POLICY,
) -> dict[str, float]:
    """The lower bound of each dimension: correctness always, the others once they have enough evidence."""
    judged = judged_correctness(state, policy)
    bounds = {CORRECTNESS: beta_quantile(policy.bound, 1.0 + judged.successes, 1.0 + judged.failures)}
    if state.observed_hours >= policy.availability_min_hours:
        prior = prior_of_availability(network_live_mean, policy)
        bounds[AVAILABILITY] = beta_quantile(
            policy.bound, prior.successes + state.availability.successes, prior.failures + state.availability.failures
        )
    if state.performance.weight >= policy.performance_min_units:
        bounds[PERFORMANCE] = beta_quantile(
            policy.bound, 1.0 + state.performance.successes, 1.0 + state.performance.failures
        )
    return bounds


def judged_correctness(state: EvidenceState, policy: ReputationPolicy = DEFAULT_POLICY) -> Evidence:
    """First-hand evidence of correctness plus other nodes' ratings, up to their maximum share."""
    own = correctness_of(state, policy)
    allowed = own.weight * policy.ratings_share / (1.0 - policy.ratings_share)
    others = state.ratings
    if allowed == 0.0 or others.weight == 0.0:
        return own
    part = min(1.0, allowed / others.weight)
    return evidence_of(own.successes + part * others.successes, own.failures + part * others.failures)


def audit_probability(state: EvidenceState, policy: ReputationPolicy = DEFAULT_POLICY) -> float:
    """The share of this node's results that should be checked: max(2 %, min(1, (1 − L) / 0.05 − 1)).

    L is the bound of correctness. The checking node must share neither wallet, network nor rating ring with this one.
    """
    judged = judged_correctness(state, policy)
    least = beta_quantile(policy.bound, 1.0 + judged.successes, 1.0 + judged.failures)
    return max(policy.least_audit, min(1.0, (1.0 - least) / policy.audit_tolerance - 1.0))


def _reasons(
    state: EvidenceState, bounds: Mapping[str, float], reached: float, policy: ReputationPolicy
) -> tuple[str, ...]:
    own = correctness_of(state, policy)
    if own.weight == 0.0:
        reasons = [_NO_TASK]
    else:
        counts = f"{own.successes:.4g} of {own.weight:.4g} weighted task outcomes succeeded"
        reasons = [f"{counts}: most likely correct in at least {bounds[CORRECTNESS]:.1%} of cases"]
    if state.ratings.weight > 0.0:
        reasons.append(
            f"other nodes' ratings weigh {state.ratings.successes:.3g} for and {state.ratings.failures:.3g} against "
            f"it, and make up at most {policy.ratings_share:.0%} of the evidence"
        )
    elif state.raters:
        count = len(state.raters)
        ratings = "1 rating" if count == 1 else f"{count} ratings"
        reasons.append(f"{ratings} by other nodes: not trusted, or not counted before the next rating batch")
    reasons.extend(_reasons_of_time(state, bounds, policy))
    if reached < policy.newcomer_score:
        reasons.append("a newcomer's score is the lowest; the evidence is worse, so its standing decides")
    return tuple(reasons)


def _reasons_of_time(state: EvidenceState, bounds: Mapping[str, float], policy: ReputationPolicy) -> list[str]:
    reasons = []
    seen = f"observed for {state.observed_hours:.1f} h"
    if AVAILABILITY in bounds:
        reasons.append(f"{seen}: most likely live at least {bounds[AVAILABILITY]:.1%} of the time")
    elif state.observed_hours > 0.0:
        reasons.append(f"{seen}; availability counts from {policy.availability_min_hours:.0f} h on")
    if PERFORMANCE in bounds:
        reasons.append(f"most likely performs as claimed in at least {bounds[PERFORMANCE]:.1%} of measurements")
    return reasons
