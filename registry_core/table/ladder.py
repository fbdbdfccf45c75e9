"""Bitmaps over the thresholds of one capability: for each threshold, the slots that reach it.

A ladder finds the bitmap for "at least this value" and knows whether that bitmap is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Optional

from pyroaring import BitMap

__all__ = ["CPU_THRESHOLDS", "GB_THRESHOLDS", "Ladder", "Rung"]

# Common sizes of machines, so that most demands equal a threshold and need no check of each value. Each further
# threshold costs an `add` at registration (35 ns) and up to 128 KiB at a million nodes.
CPU_THRESHOLDS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
GB_THRESHOLDS = (1, 2, 4, 8, 16, 24, 32, 64, 100, 128, 250, 256, 500, 512, 1_000, 2_000, 4_000, 10_000, 50_000)


class Rung(NamedTuple):
    """The slots that may reach a value: `reach` is a superset; those in `surely` need no check of the value itself."""

    reach: BitMap
    surely: Optional[BitMap]  # None: all of `reach`


_NO_SLOTS = BitMap()


class Ladder:
    """Slots by the thresholds that their value reaches."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._thresholds = thresholds
        self._reached = [BitMap() for _ in thresholds]

    def fill(self, slots: Sequence[int], values: Sequence[float]) -> None:
        """Add many slots, in rising order; `values` is indexed by slot."""
        steps: list[list[int]] = [[] for _ in range(len(self._thresholds) + 1)]
        thresholds = self._thresholds
        for slot in slots:
            steps[bisect_right(thresholds, values[slot])].append(slot)
        above = BitMap()
        for place in range(len(thresholds) - 1, -1, -1):
            above |= BitMap(steps[place + 1])
            self._reached[place] |= above

    def add(self, slot: int, value: float) -> None:
        """Add a slot with this value."""
        for reached in self._reached[: bisect_right(self._thresholds, value)]:
            reached.add(slot)

    def discard(self, slot: int, value: float) -> None:
        """Remove a slot that had this value."""
        for reached in self._reached[: bisect_right(self._thresholds, value)]:
            reached.discard(slot)

    def rung(self, least: float) -> Optional[Rung]:
        """The slots that may have at least `least` (> 0); None if any slot may."""
        place = bisect_right(self._thresholds, least) - 1
        surely = self._reached[place + 1] if place + 1 < len(self._reached) else _NO_SLOTS
        if place < 0:
            return None
        exact = self._thresholds[place] == least
        return Rung(self._reached[place], None if exact else surely)

    def surely_reached(self, least: float) -> BitMap:
        """The slots that reach the next threshold above `least`, and therefore `least`."""
        place = bisect_right(self._thresholds, least)
        return self._reached[place] if place < len(self._reached) else _NO_SLOTS
