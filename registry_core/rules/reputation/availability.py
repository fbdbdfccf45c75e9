"""Availability from the registry's own observations: the share of time a node is live, and its expected uptime.

There is one observation per node and hour; `rules.liveness` decides when a node counts as live.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from registry_core.models import limits
from registry_core.models.reputation import Evidence
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation.evidence import EvidenceState, forgetting_sum
from registry_core.rules.reputation.policy import DEFAULT_POLICY, ReputationPolicy

__all__ = ["HourObserved", "expected_uptime", "network_mean", "with_hour"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class HourObserved:
    """The observation of one node in one hour.

    `observed_share` (0 to 1) is the part in which the node could be judged: not while the registry or the node's whole
    failure domain was down, nor before it registered. `live_share` is the share of that part in which it was live.
    """

    live_share: float
    observed_share: float = 1.0
    live_at_start: bool = True

    def __post_init__(self) -> None:
        limits.number("live_share", self.live_share, 0.0, 1.0)
        limits.number("observed_share", self.observed_share, 0.0, 1.0)


def with_hour(state: EvidenceState, hour: HourObserved, policy: ReputationPolicy = DEFAULT_POLICY) -> EvidenceState:
    """The evidence after one more hour; an hour that was not observed changes nothing.

    Forgetting depends on the time observed: two half hours have the same effect as one hour.
    """
    if hour.observed_share == 0.0:
        return state
    units = hour.observed_share / policy.availability_unit_hours
    seen = evidence_of(units * hour.live_share, units * (1.0 - hour.live_share))
    uptime, window_hours, intact = _window_after(state, hour, policy)
    return replace(
        state,
        availability=forgetting_sum(state.availability, seen, policy.availability_kept),
        observed_hours=state.observed_hours + hour.observed_share,
        uptime=uptime,
        window_hours=window_hours,
        window_intact=intact,
    )


def _window_after(state: EvidenceState, hour: HourObserved, policy: ReputationPolicy) -> tuple[Evidence, float, bool]:
    """The counted windows and the current one. A window starts in an hour at whose start the node was live."""
    if state.window_hours == 0.0 and not hour.live_at_start:
        return state.uptime, 0.0, False
    whole = hour.live_at_start and hour.live_share >= 1.0 - _ROUNDING
    intact = whole and (state.window_intact or state.window_hours == 0.0)
    hours = state.window_hours + hour.observed_share
    if hours < policy.availability_unit_hours - _ROUNDING:
        return state.uptime, hours, intact
    kept = policy.availability_kept
    outcome = Evidence(1.0, 0.0) if intact else Evidence(0.0, 1.0)
    return forgetting_sum(state.uptime, outcome, kept), 0.0, False


def expected_uptime(
    state: EvidenceState,
    hours: float,
    network_windows_mean: float = DEFAULT_POLICY.availability_prior_mean,
    policy: ReputationPolicy = DEFAULT_POLICY,
) -> float:
    """P(a node that is live now stays live for the next `hours`): a calibrated estimate, not a bound.

    Beta distribution with forgetting over windows of `availability_unit_hours`, with the network's mean as prior; other
    horizons by a constant failure rate, p^(hours / unit). Raises ValidationError for negative hours.
    """
    limits.number("hours", hours, 0.0, 100_000.0)
    strength = policy.availability_prior_strength
    prior = strength * _kept_inside(network_windows_mean)
    one_window = (prior + state.uptime.successes) / (strength + state.uptime.weight)
    return float(one_window ** (hours / policy.availability_unit_hours))


def network_mean(records: Iterable[Evidence], policy: ReputationPolicy = DEFAULT_POLICY) -> float:
    """The mean over all nodes' evidence, with the policy's prior mean while there is little evidence."""
    successes = policy.availability_prior_strength * policy.availability_prior_mean
    weight = policy.availability_prior_strength
    for evidence in records:
        successes += evidence.successes
        weight += evidence.weight
    return successes / weight


def prior_of_availability(mean: float, policy: ReputationPolicy = DEFAULT_POLICY) -> Evidence:
    """The prior of availability as evidence: `availability_prior_strength` units at the network's mean."""
    inside = _kept_inside(mean)
    return evidence_of(policy.availability_prior_strength * inside, policy.availability_prior_strength * (1.0 - inside))


def _kept_inside(mean: float) -> float:
    """The mean limited to 0.01 … 0.99, since evidence could never change a prior of exactly 0 or 1."""
    return min(max(limits.number("network mean", mean, 0.0, 1.0), 0.01), 0.99)
