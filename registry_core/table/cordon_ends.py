"""Which cordons end when, so that nobody looks at those whose time has not come.

Here: ends by slot, in Unix seconds: a person named them, so they follow the wall clock. Not here: what ending means.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Optional

__all__ = ["CordonEnds"]


class CordonEnds:
    """The end of each slot's cordon, where it has one."""

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []  # may hold entries that no longer are in _ends
        self._over: dict[int, float] = {}  # ended ones: their records go on naming them

    def set(self, slot: int, until: Optional[float]) -> bool:
        """The slot's cordon ends then; None: it has none, or one without an end. True when that one is over already."""
        if until is not None and self._over.get(slot) == until:
            return True
        self._over.pop(slot, None)
        if until is None:
            self._ends.pop(slot, None)
        elif self._ends.get(slot) != until:
            self._ends[slot] = until
            heapq.heappush(self._order, (until, slot))
        return False

    def next_end(self) -> float:
        """When the next one ends, Unix seconds; infinity when none does."""
        order = self._order
        while order and self._ends.get(order[0][1]) != order[0][0]:
            heapq.heappop(order)
        return order[0][0] if order else math.inf

    def pop_over(self, unix_seconds: float) -> list[int]:
        """The slots whose cordon is over by now."""
        over = []
        while self.next_end() <= unix_seconds:
            slot = heapq.heappop(self._order)[1]
            self._over[slot] = self._ends.pop(slot)
            over.append(slot)
        return over

    def moved(self, new_slots: Mapping[int, int]) -> CordonEnds:
        """The same after slots were given new numbers."""
        moved = CordonEnds()
        for slot, until in self._ends.items():
            moved.set(new_slots[slot], until)
        moved._over = {new_slots[slot]: until for slot, until in self._over.items()}
        return moved
