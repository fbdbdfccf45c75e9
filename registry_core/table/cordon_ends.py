"""When cordons expire, ordered by time, so that only expired ones are examined.

Times are Unix seconds: people set them, so they follow the wall clock.
"""

from __future__ import annotations

import heapq
import math
from typing import Optional

__all__ = ["CordonEnds"]


class CordonEnds:
    """The nodes whose cordon has an end, with that end."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []  # may hold entries that are no longer in _ends
        self._over: dict[str, float] = {}  # expired ones, which their records still contain

    def set(self, node_id: str, until: Optional[float]) -> bool:
        """Set the end of the node's cordon; None: no cordon, or one without an end. True if this one has expired."""
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
        """When the next cordon ends, in Unix seconds; infinity if none does."""
        order = self._order
        while order and self._ends.get(order[0][1]) != order[0][0]:
            heapq.heappop(order)
        return order[0][0] if order else math.inf

    def pop_over(self, unix_seconds: float) -> list[str]:
        """Remove and return the nodes whose cordon has expired."""
        over = []
        while self.next_end() <= unix_seconds:
            node_id = heapq.heappop(self._order)[1]
            self._over[node_id] = self._ends.pop(node_id)
            over.append(node_id)
        return over
