"""Bitmaps over the thresholds of one capability: for each threshold the slots that reach it.

Here: which bitmap answers "at least so much", and whether it answers exactly. Not here: which capability it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Optional

from pyroaring import BitMap

__all__ = ["CPU_THRESHOLDS", "GB_THRESHOLDS", "Ladder", "Rung"]

# Sizes that machines are sold in, so that most demands hit a threshold and need no second look. More thresholds
# cost an `add` each at registration (35 ns) and up to 128 KiB each at a million nodes.
CPU_THRESHOLDS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
GB_THRESHOLDS = (1, 2, 4, 8, 16, 24, 32, 64, 100, 128, 250, 256, 500, 512, 1_000, 2_000, 4_000, 10_000, 50_000)


class Rung(NamedTuple):
    """The slots that may reach a value: `reach` is a superset, `surely` of it needs no look at the value itself."""

    reach: BitMap
    surely: Optional[BitMap]  # None: all of `reach`


_NOBODY = BitMap()


class Ladder:
    """Slots by the thresholds that their value reaches."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._thresholds = thresholds
        self._reached = [BitMap() for _ in thresholds]

    def fill(self, slots: Sequence[int], values: Sequence[float]) -> None:
        """Take in many slots (rising) at once; `values` is by slot."""
        steps: list[list[int]] = [[] for _ in range(len(self._thresholds) + 1)]
        thresholds = self._thresholds
        for slot in slots:
            steps[bisect_right(thresholds, values[slot])].append(slot)
        above = BitMap()
        for place in range(len(thresholds) - 1, -1, -1):
            above |= BitMap(steps[place + 1])
            self._reached[place] |= above

    def add(self, slot: int, value: float) -> None:
        """The slot has this value."""
        for reached in self._reached[: bisect_right(self._thresholds, value)]:
            reached.add(slot)

    def discard(self, slot: int, value: float) -> None:
        """The slot had this value."""
        for reached in self._reached[: bisect_right(self._thresholds, value)]:
            reached.discard(slot)

    def rung(self, least: float) -> Optional[Rung]:
        """Who may have `least` (> 0) or more; None when every slot may."""
        place = bisect_right(self._thresholds, least) - 1
        surely = self._reached[place + 1] if place + 1 < len(self._reached) else _NOBODY
        if place < 0:
            return None
        exact = self._thresholds[place] == least
        return Rung(self._reached[place], None if exact else surely)

    def surely_reached(self, least: float) -> BitMap:
        """Who has at least the next threshold, and so `least`."""
        place = bisect_right(self._thresholds, least)
        return self._reached[place] if place < len(self._reached) else _NOBODY
