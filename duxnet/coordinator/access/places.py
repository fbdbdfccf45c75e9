"""How many requests of a kind are in hand at once, and whose they are.

Here: the bound, the share of it that each network has for itself, and the places that strangers cannot take. Not here:
what a request is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from duxnet.coordinator.errors import Refused

__all__ = ["Holder", "Places", "WaitingPlaces"]

SHARE = 8
"""When all places are taken, each network may still have an eighth of that number beyond them, so that one network that
takes them all keeps no other out."""


class Places:
    """Belongs to the event loop. `most` places, and as many beyond them for networks with less than their share.

    A network is a text, the same for all that are near each other (`networks.near`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // SHARE)
        self._of_network: Counter[str] = Counter()
        self._in_hand = 0

    @property
    def in_hand(self) -> int:
        """How many there are."""
        return self._in_hand

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


class Holder(NamedTuple):
    """The owner of a place: a caller with a token, by its name, or any client of a network."""

    name: str
    has_token: bool


class WaitingPlaces:
    """Places for requests that wait, those of callers with a token apart: strangers never take them."""

    def __init__(self, most: int, what: str, retry_after_seconds: float) -> None:
        self._strangers, self._known = Places(most), Places(most)
        self._refusal = f"too many {what}"
        self._retry_after_seconds = retry_after_seconds

    @property
    def in_hand(self) -> int:
        """How many wait."""
        return self._strangers.in_hand + self._known.in_hand

    @contextmanager
    def taken(self, holder: Holder) -> Iterator[None]:
        """A place until the end of the block. Raises Refused where there is none."""
        places = self._known if holder.has_token else self._strangers
        if not places.has_room(holder.name):
            raise Refused("busy", self._refusal, retry_after_seconds=self._retry_after_seconds)
        places.enter(holder.name)
        try:
            yield
        finally:
            places.leave(holder.name)
