"""How many reports on time a node must send before it is live again: more, the more often it fell silent recently."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

__all__ = ["FORGET_INTERVALS", "MOST_BEATS", "Flapping", "after_report", "beats_owed", "fell_silent", "is_forgotten"]

FORGET_INTERVALS = 40.0
"""Number of intervals after which one silence is forgotten: ten minutes at 15 s. Higher: longer memory."""

MOST_BEATS = 8
"""Maximum number of reports that a node owes: two minutes at 15 s."""


class Flapping(NamedTuple):
    """A node's recent silences.

    `silences` was their number at `at` (monotonic seconds) and decreases with time; `good` is the number of reports on
    time since then.
    """

    silences: float
    at: float
    good: int = 0


def fell_silent(before: Optional[Flapping], now: float, interval_seconds: float) -> Flapping:
    """The state after another silence."""
    recent = 0.0 if before is None else _faded(before, now, interval_seconds)
    return Flapping(recent + 1, now)


def after_report(state: Flapping, silent_seconds: float, interval_seconds: float) -> Flapping:
    """The state after a report that came after `silent_seconds`; a missed report restarts the count."""
    good = state.good + 1 if silent_seconds < 2 * interval_seconds else 1
    return state._replace(good=good)


def beats_owed(state: Flapping) -> int:
    """The number of further reports on time before the node is live: 1 in all after the first silence, then 2, 4, 8."""
    wanted = min(MOST_BEATS, 2 ** (min(8, max(1, math.ceil(state.silences - 1e-9))) - 1))
    return max(0, int(wanted) - state.good)


def is_forgotten(state: Flapping, now: float, interval_seconds: float) -> bool:
    """Whether the state has no effect any more."""
    return _faded(state, now, interval_seconds) <= 0


def _faded(state: Flapping, now: float, interval_seconds: float) -> float:
    return max(0.0, state.silences - (now - state.at) / (FORGET_INTERVALS * interval_seconds))
