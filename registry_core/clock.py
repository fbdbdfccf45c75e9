"""The two clocks that the registry reads, passed in so that tests can move them.

Deadlines are judged by the monotonic one only; the wall clock is for what people read.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the registry asks of a clock."""

    def monotonic(self) -> float:
        """Seconds that never go back; the zero point means nothing."""

    def now(self) -> datetime:
        """The wall-clock time, UTC, with its zone."""


class SystemClock:
    """The clocks of this machine."""

    # Seconds of CLOCK_MONOTONIC, which stands still while the machine sleeps: that time is nobody's fault.
    # The function itself and no method around it: every call of a registry asks it.
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return datetime.now(timezone.utc)
