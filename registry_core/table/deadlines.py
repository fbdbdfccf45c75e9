"""When to look at a slot again. A node that is on time costs a few nanoseconds for each of its deadlines, no more.

Here: buckets of slots by due time. Not here: what a due slot means (`rules.liveness`). An entry is only a
promise to look: the slot may have reported since, and whoever looks sets the next deadline.
"""

from __future__ import annotations

import heapq
import math
import sys
from array import array

__all__ = ["Deadlines"]

GRAIN_SECONDS = 1 / 16
"""Width of a bucket, and how late a deadline may be noticed. Smaller: more buckets."""


class Deadlines:
    """Slots by due time; four bytes a slot."""

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = {}
        self._order: list[int] = []

    def add(self, slot: int, due: float) -> None:
        """Look at `slot` at `due` (monotonic seconds) or up to one grain later."""
        place = math.ceil(due / GRAIN_SECONDS)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = array("I")
            heapq.heappush(self._order, place)
        bucket.append(slot)

    def pop_due(self, now: float, most: int = sys.maxsize) -> list[int]:
        """The slots whose time has come, at most so many: while there are more, `next_due` is not after `now`."""
        due: list[int] = []
        while self._order and self._order[0] * GRAIN_SECONDS <= now and len(due) < most:
            bucket = self._buckets[self._order[0]]
            room = most - len(due)
            due.extend(bucket[:room])
            del bucket[:room]
            if not bucket:
                del self._buckets[heapq.heappop(self._order)]
        return due

    def next_due(self) -> float:
        """When `pop_due` next gives something, monotonic seconds; infinity when never."""
        return self._order[0] * GRAIN_SECONDS if self._order else math.inf
