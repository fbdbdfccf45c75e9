"""How long a silent node still counts as live, as a function of elapsed time and reporting interval."""

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
"""Additional intervals before a node is down, since the network can delay a report."""

MAX_INTERVAL_SECONDS = 900.0
"""The longest reporting interval. With a longer one a node's state would be too old to be useful."""

SUSPECT_AFTER_INTERVALS = MISSED_UNTIL_SUSPECT
DOWN_AFTER_INTERVALS = MISSED_UNTIL_DOWN + GRACE_INTERVALS


def liveness(silent_seconds: float, interval_seconds: float) -> Liveness:
    """Live; suspect after two missed reports; down after three and a grace period of one interval."""
    if silent_seconds >= DOWN_AFTER_INTERVALS * interval_seconds:
        return Liveness.DOWN
    if silent_seconds >= SUSPECT_AFTER_INTERVALS * interval_seconds:
        return Liveness.SUSPECT
    return Liveness.LIVE


def paced_interval(nodes: int, beats_per_second: float, shortest_seconds: float, longest_seconds: float) -> float:
    """The reporting interval at which `nodes` nodes together send `beats_per_second`, within the bounds."""
    return min(longest_seconds, max(shortest_seconds, nodes / beats_per_second))


def interval_of_timeout(timeout_seconds: float) -> float:
    """The interval with which a node is down after `timeout_seconds` of silence."""
    return timeout_seconds / DOWN_AFTER_INTERVALS
