"""How many nodes registered from where last: the quotas for each address and each network.

Here: counting, from the first node after a restart on. Not here: which addresses count (`addresses`), what happens to a
node that is one too many (`service`), the quota of a wallet (`registry.admin.attach_wallet`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Optional

from duxnet.coordinator.addresses import quota_keys

__all__ = ["Quotas"]


class Quotas:
    """Belongs to the event loop. A limit of 0 is none; `registered` are the ids that are to be counted yet."""

    def __init__(self, per_address: int, per_network: int, registered: Iterable[str]) -> None:
        self._limits = (per_address, per_network)  # in the order of quota_keys
        self._nodes: Counter[str] = Counter()
        self._uncounted = set(registered) if any(self._limits) else set()

    @property
    def are_counting(self) -> bool:
        """Has it just started, so that nobody knows yet how many there are?"""
        return bool(self._uncounted)

    def are_full(self, peer: Optional[str]) -> bool:
        """Would one more from this peer be too many?"""
        return any(limit and self._nodes[key] >= limit for limit, key in zip(self._limits, quota_keys(peer)))

    def moves(self, node_id: str, earlier: Optional[str], peer: Optional[str]) -> None:
        """The node registers from `peer`, and did so from `earlier` before (None: it is new)."""
        self.leaves(node_id, earlier)
        self._count(peer, 1)

    def took_nothing(self, earlier: Optional[str], peer: Optional[str]) -> None:
        """The registration that `moves` was told of has failed."""
        self._count(peer, -1)
        self._count(earlier, 1)

    def leaves(self, node_id: str, peer: Optional[str]) -> None:
        """The node is gone from there."""
        if node_id in self._uncounted:
            self._uncounted.discard(node_id)
        else:
            self._count(peer, -1)

    def wait_for(self, node_id: str) -> bool:
        """Is this node to be counted yet? `recount` must follow."""
        return node_id in self._uncounted

    def recount(self, node_id: str, peer: Optional[str]) -> None:
        """Where a node that was registered before the start is."""
        self._uncounted.discard(node_id)
        self._count(peer, 1)

    def all_counted(self) -> None:
        """There are no more that were registered before the start."""
        self._uncounted.clear()

    def _count(self, peer: Optional[str], step: int) -> None:
        for key in quota_keys(peer):
            self._nodes[key] += step
            if self._nodes[key] <= 0:
                del self._nodes[key]
