"""Limits how many requests of one kind are processed at the same time.

Here: the limit, the share of each network, and the places that only callers with a token can take. Not here: what the
requests do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from duxnet.coordinator.errors import Refused

__all__ = ["Holder", "Places", "WaitingPlaces"]

SHARE = 8
"""When all places are taken, each network may use extra places, up to an eighth of their number in total, so that a
network that takes all places does not lock out the others."""


class Places:
    """Used in one event loop. There are `most` places, and as many extra ones for networks below their share.

    A network is a text; clients near each other have the same one (`networks.near`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, most // SHARE)
        self._of_network: Counter[str] = Counter()
        self._in_hand = 0

    @property
    def in_hand(self) -> int:
        """The number of requests in progress."""
        return self._in_hand

    def has_room(self, network: str) -> bool:
        """May one more request from this network enter?"""
        if self._in_hand < self._most:
            return True
        return self._in_hand < 2 * self._most and self._of_network[network] < self._share

    def enter(self, network: str) -> None:
        """Count a request that begins."""
        self._in_hand += 1
        self._of_network[network] += 1

    def leave(self, network: str) -> None:
        """Stop counting a request that has ended."""
        self._in_hand -= 1
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]


class Holder(NamedTuple):
    """The owner of a place: a caller with a token, by its name, or any client of a network."""

    name: str
    has_token: bool


class WaitingPlaces:
    """Places for waiting requests. Callers with a token have their own, which other clients cannot take."""

    def __init__(self, most: int, what: str, retry_after_seconds: float) -> None:
        self._strangers, self._known = Places(most), Places(most)
        self._refusal = f"too many {what}"
        self._retry_after_seconds = retry_after_seconds

    @property
    def in_hand(self) -> int:
        """The number of waiting requests."""
        return self._strangers.in_hand + self._known.in_hand

    @contextmanager
    def taken(self, holder: Holder) -> Iterator[None]:
        """Hold a place until the end of the block. Raises Refused if none is free."""
        places = self._known if holder.has_token else self._strangers
        if not places.has_room(holder.name):
            raise Refused("busy", self._refusal, retry_after_seconds=self._retry_after_seconds)
        places.enter(holder.name)
        try:
            yield
        finally:
            places.leave(holder.name)
