"""A clock that stands still while the coordinator does: silence counts only while somebody listens.

The event loop gives a pulse several times an interval. Time never runs further ahead of the last pulse than the
tolerance, so a coordinator that was stopped, starved or asleep blames no node for what it did not hear.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Callable

__all__ = ["ListeningClock"]


class ListeningClock:
    """A `registry_core.clock.Clock`. `tolerance_seconds` is how late a pulse may be before time stands still.

    Any thread may ask it; one gives the pulse. What a pulse changes is replaced in one step, so that nobody waits.
    """

    def __init__(self, tolerance_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tolerance = tolerance_seconds
        self._source = monotonic
        self._state = (monotonic() + tolerance_seconds, 0.0)  # where time stands still, and how long it did in all

    @property
    def missed_seconds(self) -> float:
        """How long nobody listened, in all."""
        return self._state[1]

    def pulse(self) -> float:
        """The loop runs. Returns the seconds that it had stood still beyond the tolerance."""
        now = self._source()
        end, missed = self._state
        stood = max(0.0, now - end)
        self._state = (now + self._tolerance, missed + stood)
        return stood

    def monotonic(self) -> float:
        """Seconds during which somebody listened; never goes back."""
        end, missed = self._state
        now = self._source()
        return (now if now < end else end) - missed

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return datetime.now(timezone.utc)
