"""When those are to come again who found no place for their registration.

Here: the time that a crowd is spread over. Not here: how many places there are and who may have them (`places`), what
a registration is (`pipeline`), quotas of nodes that are in (`quotas`).
"""

from __future__ import annotations

import secrets

from duxnet.coordinator.errors import Refused
from duxnet.coordinator.places import Places

__all__ = ["RegistrationLimiter"]

LET_IN_PER_SECOND = 2000
"""So many registrations a second are counted on when a crowd is told when to come again. More than one core does: they
come again in vain; fewer: they wait while nobody does anything."""
LONGEST_SPREAD_SECONDS = 60
FORGETTING = 0.95
"""Of those turned away, the share that is remembered a pulse later: half of them after 3.4 seconds."""


class RegistrationLimiter(Places):
    """Places for registrations, and when who found none is to come again."""

    _turned_away = 0.0

    def turned_away(self) -> Refused:
        """Come back later, each at another time, spread the wider the more there are."""
        self._turned_away += 1
        spread_seconds = min(LONGEST_SPREAD_SECONDS, 5 + int(self._turned_away / LET_IN_PER_SECOND))
        return Refused(
            "busy", "too many nodes register at once", retry_after_seconds=1 + secrets.randbelow(spread_seconds)
        )

    def forget(self) -> None:
        """A pulse later."""
        self._turned_away *= FORGETTING
