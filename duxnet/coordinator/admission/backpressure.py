"""Limits how many registrations are in progress at once, and spreads the retries of the refused ones over time.

Here: the limit, the share that is reserved for each network, the Retry-After of refused ones. Not here: what
a registration does (`pipeline`), quotas of registered nodes (`quotas`).
"""

from __future__ import annotations

import secrets
from collections import Counter

from duxnet.coordinator.errors import Refused

__all__ = ["RegistrationLimiter"]

SHARE = 8
"""When all places are taken, each network may still use an eighth as many beyond them. So one network that takes all
places, with invalid registrations, does not keep others out."""
LET_IN_PER_SECOND = 2000
"""Registrations per second that Retry-After assumes. If this is more than one core can handle, clients come back too
early; if less, the coordinator is idle while they wait."""
LONGEST_SPREAD_SECONDS = 60
FORGETTING = 0.95
"""The share of refused registrations that still counts a pulse later: half of them count after 3.4 seconds."""


class RegistrationLimiter:
    """Used in the event loop. `most` places, and as many more for networks that use less than their share.

    A network is a text, the same for neighbouring addresses (`networks.near`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // SHARE)
        self._in_hand = 0
        self._of_network: Counter[str] = Counter()
        self._turned_away = 0.0

    def has_room(self, network: str) -> bool:
        """May one more registration from this network begin?"""
        if self._in_hand < self._most:
            return True
        return self._in_hand < 2 * self._most and self._of_network[network] < self._share

    def enter(self, network: str) -> None:
        """Count a registration that begins."""
        self._in_hand += 1
        self._of_network[network] += 1

    def leave(self, network: str) -> None:
        """Uncount a registration that was answered."""
        self._in_hand -= 1
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]

    def turned_away(self) -> Refused:
        """Returns the refusal. Its Retry-After is random, over a longer time if many were refused lately."""
        self._turned_away += 1
        spread_seconds = min(LONGEST_SPREAD_SECONDS, 5 + int(self._turned_away / LET_IN_PER_SECOND))
        return Refused(
            "busy", "too many nodes register at once", retry_after_seconds=1 + secrets.randbelow(spread_seconds)
        )

    def forget(self) -> None:
        """Reduce the count of refused registrations, once a pulse."""
        self._turned_away *= FORGETTING
