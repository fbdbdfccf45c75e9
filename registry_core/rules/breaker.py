"""When many nodes fall silent at once, it is rarely the nodes: the mass-failure breaker, as functions of counts.

Here: when it opens and when it closes. Not here: counting (the host), what an open breaker keeps from happening.
It ends by itself: silence that outlasts the hold is taken for real.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOMAIN_LIMIT", "GLOBAL_LIMIT", "BreakerLimit", "hold_is_over", "must_open"]

WINDOW_INTERVALS = 4.0
"""Silences that begin within this many intervals count as one event."""

HOLD_INTERVALS = 40.0
"""How long an open breaker waits for the silent to return: ten minutes at 15 s. Longer: real losses stay listed."""

RETURN_INTERVALS = 2.0
"""When it closes because most are back, how long the others still have to come back as well."""


@dataclass(frozen=True)
class BreakerLimit:
    """`share` of those alive that must fall silent within the window, and at least `least` of them."""

    share: float
    least: int


GLOBAL_LIMIT = BreakerLimit(0.15, 5)
DOMAIN_LIMIT = BreakerLimit(0.50, 5)


def must_open(fell_silent: int, still_alive: int, limit: BreakerLimit) -> bool:
    """Did too many of those that were alive at the start of the window fall silent in it?"""
    if fell_silent < limit.least:
        return False
    return fell_silent > limit.share * (fell_silent + still_alive)


def hold_is_over(open_seconds: float, interval_seconds: float, still_silent: int, at_opening: int) -> bool:
    """May it close? When at most a quarter of the silent are still missing, or when it was open long enough."""
    return 4 * still_silent <= at_opening or open_seconds >= HOLD_INTERVALS * interval_seconds
