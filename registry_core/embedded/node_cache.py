"""A bounded cache of node snapshots, each valid until its node changes."""

from __future__ import annotations

from typing import Optional

from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Liveness, NodeHealth, Scheduling
from registry_core.models.trusted import node_snapshot, node_with
from registry_core.table.node_table import NodeTable

__all__ = ["NodeCache"]

MOST_KEPT = 65_536
"""Maximum number of cached slots, about 2 KiB each for description, newest health and snapshot. A larger cache avoids
reading records again in large registries; smaller registries fit completely."""


class NodeCache:
    """Keyed by slot. Not thread-safe: guarded by the registry's lock."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._bases: dict[int, Node] = {}
        self._healths: dict[int, NodeHealth] = {}
        self._made: dict[int, Node] = {}

    def reported(self, slot: int, health: NodeHealth) -> None:
        """Store the new sample of a cached node; the table holds every node's sample."""
        if slot in self._bases:
            self._healths[slot] = health
            self._made.pop(slot, None)

    def changed(self, slot: int) -> None:
        """Drop the snapshot after another change of the node's health or liveness."""
        self._healths.pop(slot, None)
        self._made.pop(slot, None)

    def forget(self, slot: int) -> None:
        """Drop everything about a node whose record changed or was removed."""
        self._bases.pop(slot, None)
        self.changed(slot)

    def get(self, slot: int) -> Optional[Node]:
        """The node as it is now; None if its record must be read first."""
        node = self._made.get(slot)
        if node is None:
            base = self._bases.get(slot)
            if base is None:
                return None
            node = self._made[slot] = node_snapshot(base, *self.view(slot))
        return node

    def all_of(self, slots: list[int]) -> tuple[list[Optional[Node]], list[int]]:
        """`get` for each slot, and the list indexes whose record must be read first."""
        found = [self.get(slot) for slot in slots]
        return found, [place for place, node in enumerate(found) if node is None]

    def view(self, slot: int) -> tuple[NodeHealth, Liveness]:
        """The part of a snapshot that is not in the record: health and liveness."""
        health = self._healths.get(slot)
        if health is None:
            health = self._table.slots.health(slot)
        return health, self._table.liveness(slot)

    def made_of(self, slot: int, record: NodeRecord, view: tuple[NodeHealth, Liveness]) -> Node:
        """The snapshot made of this record and view; the record's part is cached."""
        base = record.node
        if base.scheduling is Scheduling.CORDONED and not self._table.slots.cordoned[slot]:
            base = node_with(base, scheduling=Scheduling.ELIGIBLE, cordon=None)  # the cordon expired
        if len(self._bases) >= MOST_KEPT:
            self._bases.clear()
            self._healths.clear()
            self._made.clear()
        self._bases[slot] = base
        return node_snapshot(base, *view)
