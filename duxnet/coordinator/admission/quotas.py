"""The quotas of nodes for each client address and each network.

Here: counting, also again after a restart. Not here: which addresses count (`networks`), what happens to a node beyond
its quota (`pipeline`), the quota of a wallet (`registry.admin.attach_wallet`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional

from duxnet.coordinator.admission.networks import quota_keys

__all__ = ["Quotas"]


class Quotas:
    """The commit thread moves nodes; the event loop recounts them after a restart.

    A limit of 0 means no limit. `registered` returns the ids to count; it is called only if there is a limit.
    """

    def __init__(self, per_address: int, per_network: int, registered: Callable[[], Iterable[str]]) -> None:
        self._limits = (per_address, per_network)  # in the order of quota_keys
        self._nodes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._moves: list[tuple[Optional[str], Optional[str]]] = []  # of the current commit
        self._uncounted = set(registered()) if any(self._limits) else set()

    @property
    def are_counting(self) -> bool:
        """Are some registered nodes not counted yet since the start?"""
        return bool(self._uncounted)

    def are_full(self, peer: Optional[str]) -> bool:
        """Would one more node from this peer exceed a limit?"""
        return any(limit and self._nodes[key] >= limit for limit, key in zip(self._limits, quota_keys(peer)))

    @contextmanager
    def commit(self) -> Iterator[None]:
        """A context that undoes the moves inside if an exception leaves it."""
        try:
            yield
        except BaseException:
            self.back_to(0)
            raise
        finally:
            self._moves.clear()

    def mark(self) -> int:
        """Returns the position in the current commit, for `back_to`: the number of moves."""
        return len(self._moves)

    @property
    def arrived(self) -> int:
        """How many nodes the current commit has added so far."""
        return sum((earlier is None) - (earlier is not None and peer is None) for earlier, peer in self._moves)

    def back_to(self, mark: int) -> None:
        """Undo the moves since the mark, whose change was refused."""
        with self._lock:
            for earlier, peer in self._moves[mark:]:
                self._count(peer, -1)
                self._count(earlier, 1)
        del self._moves[mark:]

    def move(self, node_id: str, earlier: Optional[str], peer: Optional[str]) -> None:
        """Count a node at `peer` instead of at `earlier`. None means not registered."""
        with self._lock:
            if node_id in self._uncounted:
                self._uncounted.discard(node_id)
            else:
                self._count(earlier, -1)
            self._count(peer, 1)
        self._moves.append((earlier, peer))

    def recount(self, node_id: str, state_of: Callable[[str], Optional[Mapping[str, Any]]]) -> None:
        """Count a node from before the start at the peer in its state, unless it has moved since."""
        with self._lock:
            if node_id in self._uncounted:
                self._count((state_of(node_id) or {}).get("peer"), 1)
                self._uncounted.discard(node_id)

    def all_counted(self) -> None:
        """End recounting."""
        self._uncounted.clear()

    def _count(self, peer: Optional[str], step: int) -> None:
        for key in quota_keys(peer):
            self._nodes[key] += step
            if self._nodes[key] <= 0:
                del self._nodes[key]
