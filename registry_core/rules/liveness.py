"""How long a silent node is still taken for alive: one function of elapsed time and interval.

Here: the rule. Not here: clocks and deadlines (`table.deadlines`), what a host does about a node that is down.
"""

from __future__ import annotations

from registry_core.models.status import Liveness

__all__ = [
    "DOWN_AFTER_INTERVALS",
    "MAX_INTERVAL_SECONDS",
    "SUSPECT_AFTER_INTERVALS",
    "interval_of_timeout",
    "liveness",
    "paced_interval",
]

MISSED_UNTIL_SUSPECT = 2
MISSED_UNTIL_DOWN = 3
GRACE_INTERVALS = 1
"""On top of the missed ones, before a node is down: one late report is the network's, not the node's."""

MAX_INTERVAL_SECONDS = 900.0
"""An agent that wants to report less often than this is not being followed, only listed."""

SUSPECT_AFTER_INTERVALS = MISSED_UNTIL_SUSPECT
DOWN_AFTER_INTERVALS = MISSED_UNTIL_DOWN + GRACE_INTERVALS


def liveness(silent_seconds: float, interval_seconds: float) -> Liveness:
    """Live, suspect after two missed reports, down after three and a grace of one interval."""
    if silent_seconds >= DOWN_AFTER_INTERVALS * interval_seconds:
        return Liveness.DOWN
    if silent_seconds >= SUSPECT_AFTER_INTERVALS * interval_seconds:
        return Liveness.SUSPECT
    return Liveness.LIVE


def paced_interval(nodes: int, beats_per_second: float, shortest_seconds: float, longest_seconds: float) -> float:
    """How often each of `nodes` is to report so that all together send `beats_per_second`, within the bounds."""
    return min(longest_seconds, max(shortest_seconds, nodes / beats_per_second))


def interval_of_timeout(timeout_seconds: float) -> float:
    """The interval at which a silence of `timeout_seconds` means down."""
    return timeout_seconds / DOWN_AFTER_INTERVALS
