"""The two clocks that the registry reads, passed in so that tests can control them.

Deadlines use the monotonic clock only; the wall clock is for times that people read.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """The clock that a registry needs."""

    def monotonic(self) -> float:
        """Seconds that never decrease; the zero point is arbitrary."""

    def now(self) -> datetime:
        """The wall-clock time: UTC, timezone-aware."""


class SystemClock:
    """The clocks of this machine."""

    # CLOCK_MONOTONIC, which stops while the machine sleeps, so that no node is blamed for that time.
    # The function itself, without a method around it, because every call of a registry reads it.
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return datetime.now(timezone.utc)
