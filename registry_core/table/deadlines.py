"""When to check a slot again: buckets of slots by due time. A node on time costs a few nanoseconds per deadline.

An entry only schedules a check: the node may have reported since. The code that checks it sets the next deadline;
`rules.liveness` decides what an overdue report means.
"""

from __future__ import annotations

import heapq
import math
import sys
from array import array

__all__ = ["Deadlines"]

GRAIN_SECONDS = 1 / 16
"""Width of a bucket in seconds, and so the maximum delay of a check. A smaller value makes more buckets."""


class Deadlines:
    """Slots by due time, four bytes each."""

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = {}
        self._order: list[int] = []

    def add(self, slot: int, due: float) -> None:
        """Schedule a check of `slot` at `due` (monotonic seconds) or up to one grain later."""
        place = math.ceil(due / GRAIN_SECONDS)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = array("I")
            heapq.heappush(self._order, place)
        bucket.append(slot)

    def pop_due(self, now: float, most: int = sys.maxsize) -> list[int]:
        """Remove and return at most `most` due slots; while more are due, `next_due` is not after `now`."""
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
        """When the next slot is due, in monotonic seconds; infinity if none is."""
        return self._order[0] * GRAIN_SECONDS if self._order else math.inf
