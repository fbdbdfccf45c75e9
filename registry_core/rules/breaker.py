"""The mass-failure breaker, as functions of counts: when many nodes go silent at once, the cause is rarely the nodes.

The host counts the nodes and suppresses `down` while the breaker is open. The breaker closes by itself: nodes that stay
silent for longer than the hold are then marked down.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DOMAIN_LIMIT", "GLOBAL_LIMIT", "BreakerLimit", "hold_is_over", "must_open"]

WINDOW_INTERVALS = 4.0
"""Nodes that go silent within this many intervals count as one event."""

HOLD_INTERVALS = 40.0
"""How long an open breaker waits for silent nodes: ten minutes at 15 s. Longer: nodes that are lost stay listed."""

RETURN_INTERVALS = 2.0
"""After most nodes are back, how long the breaker stays open for the others."""


@dataclass(frozen=True)
class BreakerLimit:
    """The breaker opens when more than `share` of the live nodes, and at least `least`, go silent within the window."""

    share: float
    least: int


GLOBAL_LIMIT = BreakerLimit(0.15, 5)
DOMAIN_LIMIT = BreakerLimit(0.50, 5)


def must_open(fell_silent: int, still_alive: int, limit: BreakerLimit) -> bool:
    """Whether too many of the nodes that were live at the start of the window went silent in it."""
    if fell_silent < limit.least:
        return False
    return fell_silent > limit.share * (fell_silent + still_alive)


def hold_is_over(open_seconds: float, interval_seconds: float, still_silent: int, at_opening: int) -> bool:
    """Whether the breaker may close: at most a quarter of the nodes are still silent, or it was open for the hold."""
    return 4 * still_silent <= at_opening or open_seconds >= HOLD_INTERVALS * interval_seconds
