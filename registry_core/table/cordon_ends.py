"""Which cordons end when, so that only those whose time has come are looked at.

Here: ends by node, in Unix seconds: a person named them, so they follow the wall clock. Not here: what ending means.
"""

from __future__ import annotations

import heapq
import math
from typing import Optional

__all__ = ["CordonEnds"]


class CordonEnds:
    """The end of each node's cordon, where it has one."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []  # may hold entries that no longer are in _ends
        self._over: dict[str, float] = {}  # ended ones: their records go on naming them

    def set(self, node_id: str, until: Optional[float]) -> bool:
        """The node's cordon ends then; None: it has none, or one without an end. True when that one is over already."""
        if until is not None and self._over.get(node_id) == until:
            return True
        self._over.pop(node_id, None)
        if until is None:
            self._ends.pop(node_id, None)
        elif self._ends.get(node_id) != until:
            self._ends[node_id] = until
            heapq.heappush(self._order, (until, node_id))
        return False

    def next_end(self) -> float:
        """When the next one ends, Unix seconds; infinity when none does."""
        order = self._order
        while order and self._ends.get(order[0][1]) != order[0][0]:
            heapq.heappop(order)
        return order[0][0] if order else math.inf

    def pop_over(self, unix_seconds: float) -> list[str]:
        """The nodes whose cordon is over by now."""
        over = []
        while self.next_end() <= unix_seconds:
            node_id = heapq.heappop(self._order)[1]
            self._over[node_id] = self._ends.pop(node_id)
            over.append(node_id)
        return over
