"""A clock that stops while the coordinator does not run, so that nodes count as silent only while it listens.

The event loop pulses the clock several times an interval. The clock never runs further ahead of the last pulse than the
tolerance, so time during which the coordinator was stopped, starved or asleep does not count against nodes.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Callable

__all__ = ["ListeningClock"]


class ListeningClock:
    """A `registry_core.clock.Clock`. `tolerance_seconds` is how late a pulse may be before the clock stops.

    Any thread may read it; one thread pulses it. A pulse replaces the state in one step, so that no lock is needed.
    """

    def __init__(self, tolerance_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tolerance = tolerance_seconds
        self._source = monotonic
        self._state = (monotonic() + tolerance_seconds, 0.0)  # when the clock stops, and how long it was stopped in all

    @property
    def missed_seconds(self) -> float:
        """The total time during which the clock was stopped."""
        return self._state[1]

    def pulse(self) -> float:
        """Report that the loop runs. Returns for how many seconds the clock was stopped since the last pulse."""
        now = self._source()
        end, missed = self._state
        stood = max(0.0, now - end)
        self._state = (now + self._tolerance, missed + stood)
        return stood

    def monotonic(self) -> float:
        """Seconds during which the coordinator listened; never goes back."""
        end, missed = self._state
        now = self._source()
        return (now if now < end else end) - missed

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return datetime.now(timezone.utc)
