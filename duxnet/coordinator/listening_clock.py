"""A clock that stands still while the coordinator does: silence counts only while somebody listens.

The event loop gives a pulse several times an interval. Time never runs further ahead of the last pulse than the
tolerance, so a coordinator that was stopped, starved or asleep blames no node for what it did not hear.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Callable

__all__ = ["ListeningClock"]


class ListeningClock:
    """A `registry_core.clock.Clock`. `tolerance_seconds` is how late a pulse may be before time stands still."""

    def __init__(self, tolerance_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tolerance = tolerance_seconds
        self._source = monotonic
        self._lock = threading.Lock()
        self._pulse = monotonic()
        self._missed = 0.0

    @property
    def missed_seconds(self) -> float:
        """How long nobody listened, in all."""
        return self._missed

    def pulse(self) -> float:
        """The loop runs. Returns the seconds that it had stood still beyond the tolerance."""
        with self._lock:
            now = self._source()
            stood = max(0.0, now - self._pulse - self._tolerance)
            self._missed += stood
            self._pulse = now
            return stood

    def monotonic(self) -> float:
        """Seconds during which somebody listened; never goes back."""
        with self._lock:
            return min(self._source(), self._pulse + self._tolerance) - self._missed

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return datetime.now(timezone.utc)
