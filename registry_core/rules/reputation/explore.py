"""`order="explore"`: a share of the places, chosen by a seed, for newcomers, so that they can prove themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from registry_core.models import limits

__all__ = ["draw", "explored"]

T = TypeVar("T")


def draw(seed: str, place: int) -> float:
    """A number in [0, 1) for this seed and place: the first 53 bits of SHA-256, the same on every machine."""
    digest = hashlib.sha256(f"duxnet-explore-v1\n{seed}\n{place}".encode()).digest()
    return (int.from_bytes(digest[:7], "big") >> 3) / 2.0**53


def explored(ranked: Iterable[T], newcomers: Iterable[T], seed: str, share: float) -> Iterator[T]:
    """Merge both, each in its own order: each place goes to the next newcomer with probability `share` (0 to 1).

    `ranked` (best first) contains no newcomers. Both are read lazily. When one is exhausted, the other fills the rest.
    Shuffle the newcomers by the same seed; otherwise the oldest of them always comes first.
    """
    limits.number("share", share, 0.0, 1.0)
    best = iter(ranked)
    new = iter(newcomers)
    place = 0
    while True:
        first, second = (new, best) if draw(seed, place) < share else (best, new)
        for source in (first, second):
            try:
                item = next(source)
            except StopIteration:
                continue
            yield item
            break
        else:
            return
        place += 1
