"""Decides when clients should retry a registration that was refused because too many were in progress.

Here: the time over which the retries are spread. Not here: the number of places and the share of each network
(`places`), the steps of a registration (`pipeline`), quotas of registered nodes (`quotas`).
"""

from __future__ import annotations

import secrets

from duxnet.coordinator.access.places import Places
from duxnet.coordinator.errors import Refused

__all__ = ["RegistrationLimiter"]

LET_IN_PER_SECOND = 2000
"""Registrations per second that Retry-After assumes. If this is more than one core can handle, clients retry too
early; if less, the coordinator is idle while they wait."""
LONGEST_SPREAD_SECONDS = 60
FORGETTING = 0.95
"""The fraction of refused registrations that still counts one pulse later; half of them count after 3.4 seconds."""


class RegistrationLimiter(Places):
    """Places for registrations, and the retry time of those that found none."""

    _turned_away = 0.0

    def turned_away(self) -> Refused:
        """Returns the refusal. Its Retry-After is random, from a longer range if many were refused recently."""
        self._turned_away += 1
        spread_seconds = min(LONGEST_SPREAD_SECONDS, 5 + int(self._turned_away / LET_IN_PER_SECOND))
        return Refused(
            "busy", "too many nodes register at once", retry_after_seconds=1 + secrets.randbelow(spread_seconds)
        )

    def forget(self) -> None:
        """Reduce the count of refused registrations, once a pulse."""
        self._turned_away *= FORGETTING
