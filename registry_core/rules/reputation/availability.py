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

__all__ = ["HourObserved", "expected_uptime", "is_steady", "network_mean", "with_absence", "with_hour"]

_ROUNDING = 1e-9
_MONTH_HOURS = 720.0
_STEADY_SUCCESSES = 14.0
_STEADY_FAILURES = 1.5
"""With forgetting: six days without a break, and no two breaks within the last two days."""


@dataclass(frozen=True)
class HourObserved:
    """The observation of one node in one hour.

    `observed_share` (0 to 1) is the part in which the node could be judged: not while the registry or the node's whole
    failure domain was down, nor before it registered. `live_share` is the share of that part in which it was live.
    `away_share` is the part after the node left on purpose. `fell`: it was live and then was not, or left.
    """

    live_share: float
    observed_share: float = 1.0
    live_at_start: bool = True
    away_share: float = 0.0
    fell: bool = False

    def __post_init__(self) -> None:
        limits.number("live_share", self.live_share, 0.0, 1.0)
        limits.number("observed_share", self.observed_share, 0.0, 1.0)
        limits.number("away_share", self.away_share, 0.0, 1.0)


def with_hour(state: EvidenceState, hour: HourObserved, policy: ReputationPolicy = DEFAULT_POLICY) -> EvidenceState:
    """The evidence after one more hour; an hour that was not observed changes nothing.

    Forgetting depends on the time observed: two half hours have the same effect as one hour.
    """
    if hour.observed_share == hour.away_share == 0.0:
        return state
    if hour.observed_share > 0.0:
        live_hours = hour.observed_share * hour.live_share
        state = _with_observed(state, live_hours, hour.observed_share - live_hours, policy)
        state = _with_less_away(state, hour.observed_share, policy)
    if hour.away_share > 0.0:
        state = _with_away(state, hour.away_share, policy)
    return _with_window(state, hour, policy)


def with_absence(state: EvidenceState, hours: float, policy: ReputationPolicy = DEFAULT_POLICY) -> EvidenceState:
    """The evidence of a node that returns `hours` of observed time after its removal."""
    return _end_window(_with_away(state, hours, policy), state.window_hours + hours, intact=False, policy=policy)


def _with_observed(state: EvidenceState, live: float, down: float, policy: ReputationPolicy) -> EvidenceState:
    """The evidence after hours in which the node was judged."""
    unit = policy.availability_unit_hours
    return replace(
        state,
        availability=forgetting_sum(
            state.availability, evidence_of(live / unit, down / unit), policy.availability_kept
        ),
        observed_hours=state.observed_hours + live + down,
    )


def _with_less_away(state: EvidenceState, hours: float, policy: ReputationPolicy) -> EvidenceState:
    """The evidence after `hours` in which the node regained some of its excused hours."""
    if state.away_hours == 0.0:
        return state
    away = max(0.0, state.away_hours - hours * policy.excused_hours_a_month / _MONTH_HOURS)
    return replace(state, away_hours=away, excused_hours=min(state.excused_hours, away))


def _with_away(state: EvidenceState, hours: float, policy: ReputationPolicy) -> EvidenceState:
    """The evidence after `hours` in which the node had left or was removed: excused up to the monthly maximum.

    Beyond the maximum, hours excused in the last month count too, so that leaving every hour gains nothing.
    """
    most = policy.excused_hours_a_month
    away, excused = state.away_hours + hours, state.excused_hours + hours
    if away > most:
        state, excused = _with_observed(state, 0.0, excused, policy), 0.0
    state = replace(state, away_hours=min(away, 2.0 * most), excused_hours=excused)
    return _with_less_away(state, hours, policy)


def _with_window(state: EvidenceState, hour: HourObserved, policy: ReputationPolicy) -> EvidenceState:
    """The evidence with the hour added to its window. It starts when the node is live at a full hour or returns."""
    length = hour.observed_share + hour.away_share
    stayed = not hour.fell and (hour.live_share >= 1.0 - _ROUNDING or not hour.live_at_start)
    if state.window_hours > 0.0:
        return _end_window(
            state,
            state.window_hours + length,
            intact=state.window_intact and stayed and hour.live_at_start,
            policy=policy,
        )
    if hour.live_share * hour.observed_share == 0.0:
        return state
    begun = length if hour.live_at_start else hour.live_share * hour.observed_share
    return _end_window(state, begun, intact=stayed, policy=policy)


def _end_window(state: EvidenceState, hours: float, *, intact: bool, policy: ReputationPolicy) -> EvidenceState:
    """The evidence after the current window has grown to `hours`."""
    if hours < policy.availability_unit_hours - _ROUNDING:
        return replace(state, window_hours=hours, window_intact=intact)
    outcome = Evidence(1.0, 0.0) if intact else Evidence(0.0, 1.0)
    uptime = forgetting_sum(state.uptime, outcome, policy.availability_kept)
    return replace(state, uptime=uptime, window_hours=0.0, window_intact=False)


def is_steady(state: EvidenceState) -> bool:
    """Whether the node was live for about a week, with at most one interruption."""
    return state.uptime.successes >= _STEADY_SUCCESSES and state.uptime.failures <= _STEADY_FAILURES


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
