"""How many nodes registered from where last: the quotas for each address and each network.

Here: counting, from the first node after a restart on. Not here: which addresses count (`networks`), what happens to a
node that is one too many (`pipeline`), the quota of a wallet (`registry.admin.attach_wallet`).
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
    """Moves belong to the thread that commits, recounting to the event loop.

    A limit of 0 is none; `registered` gives the ids that are to be counted yet, and is asked only where there is one.
    """

    def __init__(self, per_address: int, per_network: int, registered: Callable[[], Iterable[str]]) -> None:
        self._limits = (per_address, per_network)  # in the order of quota_keys
        self._nodes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._moves: list[tuple[Optional[str], Optional[str]]] = []  # of the commit under way
        self._uncounted = set(registered()) if any(self._limits) else set()

    @property
    def are_counting(self) -> bool:
        """Has it just started, so that nobody knows yet how many there are?"""
        return bool(self._uncounted)

    def are_full(self, peer: Optional[str]) -> bool:
        """Would one more from this peer be too many?"""
        return any(limit and self._nodes[key] >= limit for limit, key in zip(self._limits, quota_keys(peer)))

    @contextmanager
    def commit(self) -> Iterator[None]:
        """What moves inside stays moved only if no exception comes out."""
        try:
            yield
        except BaseException:
            self.back_to(0)
            raise
        finally:
            self._moves.clear()

    def mark(self) -> int:
        """The place in the commit under way to which `back_to` can return: how many moves there were."""
        return len(self._moves)

    @property
    def arrived(self) -> int:
        """How many more nodes there are after the commit under way than before it."""
        return sum((earlier is None) - (earlier is not None and peer is None) for earlier, peer in self._moves)

    def back_to(self, mark: int) -> None:
        """Take back the moves since the mark: their change was refused."""
        with self._lock:
            for earlier, peer in self._moves[mark:]:
                self._count(peer, -1)
                self._count(earlier, 1)
        del self._moves[mark:]

    def move(self, node_id: str, earlier: Optional[str], peer: Optional[str]) -> None:
        """The node is at `peer` now and was at `earlier` before. None: nowhere, before it came or after it has gone."""
        with self._lock:
            if node_id in self._uncounted:
                self._uncounted.discard(node_id)
            else:
                self._count(earlier, -1)
            self._count(peer, 1)
        self._moves.append((earlier, peer))

    def recount(self, node_id: str, state_of: Callable[[str], Optional[Mapping[str, Any]]]) -> None:
        """Count a node that was registered before the start where its state says that it is, unless it moved since."""
        with self._lock:
            if node_id in self._uncounted:
                self._count((state_of(node_id) or {}).get("peer"), 1)
                self._uncounted.discard(node_id)

    def all_counted(self) -> None:
        """There are no more that were registered before the start."""
        self._uncounted.clear()

    def _count(self, peer: Optional[str], step: int) -> None:
        for key in quota_keys(peer):
            self._nodes[key] += step
            if self._nodes[key] <= 0:
                del self._nodes[key]
