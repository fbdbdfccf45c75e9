"""Tombstones, as commands see them: what is kept of a removed node, stored or staged.

How long tombstones are kept is defined in `storage.tombstones`, what a past means for a node in `rules.reputation`, and
which faults count against a wallet in `wallets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from registry_core.clock import Clock
from registry_core.embedded.transactions import Transactions, UnitOfWork
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap, frozen_json_map
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Tombstone
from registry_core.storage.tombstones import NODE, WALLET, StoredTombstone, TombstoneKey

__all__ = ["HostPart", "Tombstones"]

_NOTHING: FrozenMap[str, Any] = FrozenMap()


class HostPart:
    """The host's data about a removed node, and whether it is kept longer: see `StoredTombstone`."""

    __slots__ = ("lasts", "state")

    def __init__(self, state: Mapping[str, Any] = _NOTHING, *, lasts: bool = False) -> None:
        self.state = frozen_json_map("state", state)
        self.lasts = lasts


class Tombstones:
    """Part of the registry, called within its commands."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def of_node(self, unit: UnitOfWork, node_id: str) -> Optional[StoredTombstone]:
        """The tombstone of a removed node."""
        return self._transactions.tombstone(TombstoneKey(NODE, node_id), unit)

    def visible(self, node_id: str) -> Optional[StoredTombstone]:
        """The tombstone as committed; inside the caller's batch, as the batch has changed it."""
        return self._transactions.visible_tombstone(TombstoneKey(NODE, limits.lookup_key(node_id)))

    def bury_node(
        self, unit: UnitOfWork, node_id: str, left: Tombstone, reason: str = "", host: Optional[HostPart] = None
    ) -> None:
        """Keep a removed node's past and the host's data about it; `host` None keeps the present data."""
        known = self.of_node(unit, node_id)
        kept = StoredTombstone(TombstoneKey(NODE, node_id), 0.0) if known is None else known
        if left.evidence == EvidenceState() and left.standing in (Admission.PROBATION, Admission.PENDING):
            left = Tombstone()
        if host is not None:
            kept = replace(kept, host_state=host.state, lasts=host.lasts)
        is_out = left.standing is Admission.BANNED
        self._put(unit, replace(kept, left=left, reason=reason if is_out else ""))

    def take_over(self, unit: UnitOfWork, node_id: str, host: HostPart, ban: str, at: float) -> None:
        """Store a host's data, kept elsewhere so far, about a node removed at `at`, unless newer data is stored."""
        known = self.of_node(unit, node_id)
        kept = StoredTombstone(TombstoneKey(NODE, node_id), at) if known is None else known
        if not kept.host_state:
            kept = replace(kept, host_state=host.state, lasts=host.lasts)
        if ban and kept.left.standing is not Admission.BANNED:
            kept = replace(kept, left=replace(kept.left, standing=Admission.BANNED), reason=ban)
        if kept != known:
            self._transactions.bury(unit, kept)

    def take(self, unit: UnitOfWork, node_id: str) -> Optional[Tombstone]:
        """Remove and return the past of a node that registers again; its record holds it from now on.

        The host's data stays.
        """
        found = self.of_node(unit, node_id)
        if found is None:
            return None
        if found.host_state:
            self._put(unit, replace(found, left=Tombstone(), reason=""))
        else:
            self._transactions.exhume(unit, found.key)
        return None if found.left == Tombstone() else found.left

    def of_wallet(self, unit: UnitOfWork, key: str) -> tuple[list[str], Optional[Tombstone]]:
        """The nodes that have proven a wallet, given the hash of its address, and the worst past among removed ones."""
        found = self._transactions.tombstone(TombstoneKey(WALLET, key), unit)
        if found is None:
            return [], None
        return list(found.nodes), None if found.left == Tombstone() else found.left

    def bury_wallet(self, unit: UnitOfWork, key: str, nodes: list[str], left: Optional[Tombstone]) -> None:
        """Store both for a wallet."""
        self._put(unit, StoredTombstone(TombstoneKey(WALLET, key), 0.0, left or Tombstone(), nodes=tuple(nodes)))

    def _put(self, unit: UnitOfWork, tombstone: StoredTombstone) -> None:
        self._transactions.bury(unit, replace(tombstone, at=round(self._clock.now().timestamp(), 3)))
