"""How many registrations are in hand and whose they are, who must come again, and when.

Here: the bound, the share of it that each network has for itself, the time that a crowd is spread over. Not here: what
a registration is (`pipeline`), quotas of nodes that are in (`quotas`).
"""

from __future__ import annotations

import secrets
from collections import Counter

from duxnet.coordinator.errors import Refused

__all__ = ["RegistrationLimiter"]

SHARE = 8
"""An eighth of the places may be had by each network when all are taken, beyond them: one that takes them all, with
registrations that are none, keeps nobody else out."""
LET_IN_PER_SECOND = 2000
"""So many registrations a second are counted on when a crowd is told when to come again. More than one core does: they
come again in vain; fewer: they wait while nobody does anything."""
LONGEST_SPREAD_SECONDS = 60
FORGETTING = 0.95
"""Of those turned away, the share that is remembered a pulse later: half of them after 3.4 seconds."""


class RegistrationLimiter:
    """Belongs to the event loop. `most` places, and as many beyond them for networks with less than their share.

    A network is a text, the same for all that are near each other (`addresses.near`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // SHARE)
        self._in_hand = 0
        self._of_network: Counter[str] = Counter()
        self._turned_away = 0.0

    def has_room(self, network: str) -> bool:
        """May one more from there be taken in hand?"""
        if self._in_hand < self._most:
            return True
        return self._in_hand < 2 * self._most and self._of_network[network] < self._share

    def enter(self, network: str) -> None:
        """One more is in hand."""
        self._in_hand += 1
        self._of_network[network] += 1

    def leave(self, network: str) -> None:
        """It is answered."""
        self._in_hand -= 1
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]

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
