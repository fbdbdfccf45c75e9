"""How many good reports a node owes before it is trusted again: the more, the oftener it fell silent lately.

Here: counting and forgetting, as functions of time. Not here: what silence is (`liveness`), where counts are kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

__all__ = ["FORGET_INTERVALS", "MOST_BEATS", "Flapping", "beats_owed", "fell_silent", "heard", "is_forgotten"]

FORGET_INTERVALS = 40.0
"""After so many intervals one silence is forgotten: ten minutes at 15 s. Higher: longer memory."""

MOST_BEATS = 8
"""No node owes more good reports than this: two minutes at 15 s."""


class Flapping(NamedTuple):
    """`silences` counts recent ones and fades, since `at` (monotonic seconds); `good` reports came since then."""

    silences: float
    at: float
    good: int = 0


def fell_silent(before: Optional[Flapping], now: float, interval_seconds: float) -> Flapping:
    """One silence more."""
    recent = 0.0 if before is None else _faded(before, now, interval_seconds)
    return Flapping(recent + 1, now)


def heard(state: Flapping, silent_seconds: float, interval_seconds: float) -> Flapping:
    """A report came after `silent_seconds`; good ones must follow each other, so a missed one starts over."""
    good = state.good + 1 if silent_seconds < 2 * interval_seconds else 1
    return state._replace(good=good)


def beats_owed(state: Flapping) -> int:
    """How many more good reports make it live: 1 in all after the first silence, then 2, 4 and 8."""
    wanted = min(MOST_BEATS, 2 ** (min(8, max(1, math.ceil(state.silences - 1e-9))) - 1))
    return max(0, int(wanted) - state.good)


def is_forgotten(state: Flapping, now: float, interval_seconds: float) -> bool:
    """Nothing of it counts any more."""
    return _faded(state, now, interval_seconds) <= 0


def _faded(state: Flapping, now: float, interval_seconds: float) -> float:
    return max(0.0, state.silences - (now - state.at) / (FORGET_INTERVALS * interval_seconds))
