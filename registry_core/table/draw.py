"""A repeatable random order: the position of each slot in a shuffle of all slots, without computing the whole shuffle.

The order is a bijection on 0 … 2ᵏ − 1 determined by a seed, with its inverse. It is built from invertible steps
(multiply by an odd number, xor with its own shifted value, add), as in the finalizer of splitmix64 (Steele, Lea, Flood:
Fast splittable pseudorandom number generators, 2014). It is uniform enough to spread work, but not secret.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from pyroaring import BitMap

__all__ = ["Draw", "first_drawn"]

_ROUNDS = 3


class Draw:
    """The shuffle of `size` slots determined by `seed`."""

    def __init__(self, seed: int, size: int) -> None:
        self._bits = max(2, (max(size, 1) - 1).bit_length())
        self._mask = (1 << self._bits) - 1
        self._shift = (self._bits + 1) // 2  # at least half the bits, so that the xor is its own inverse
        chosen = random.Random(f"{seed}:{self._bits}")  # noqa: S311 - repeatable on purpose
        self._steps = []
        for _ in range(_ROUNDS):
            odd = chosen.getrandbits(self._bits) | 1
            self._steps.append((odd, pow(odd, -1, self._mask + 1), chosen.getrandbits(self._bits)))
        self.size = self._mask + 1

    def slot_at(self, place: int) -> int:
        """The slot at this place; it may be beyond the last existing slot."""
        mask, shift = self._mask, self._shift
        value = place
        for odd, _inverse, more in self._steps:
            value = (value * odd + more) & mask
            value ^= value >> shift
        return value

    def place_of(self, slot: int) -> int:
        """The place of this slot."""
        mask, shift = self._mask, self._shift
        value = slot
        for _odd, inverse, more in reversed(self._steps):
            value ^= value >> shift
            value = ((value - more) * inverse) & mask
        return value


def first_drawn(draw: Draw, fitting: BitMap, limit: Optional[int]) -> list[int]:
    """The first `limit` slots of `fitting`, in the order of the draw."""
    wanted = len(fitting) if limit is None else min(limit, len(fitting))
    tries = wanted * draw.size // max(len(fitting), 1)
    if tries > len(fitting):  # few slots fit: sorting them takes less than drawing until they are met
        return sorted(fitting, key=draw.place_of)[:wanted]
    found: list[int] = []
    place = 0
    while len(found) < wanted:
        slot = draw.slot_at(place)
        if slot in fitting:
            found.append(slot)
        place += 1
    return found
