"""Snapshots ready to hand out: made once, kept as long as nothing about their node changes, within a bound.

Here: the two caches and how a snapshot is put together. Not here: which nodes are asked for (`visible`).
"""

from __future__ import annotations

from typing import Optional

from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Liveness, NodeHealth, Scheduling
from registry_core.models.trusted import node_snapshot, node_with
from registry_core.table.node_table import NodeTable

__all__ = ["NodeCache"]

MOST_KEPT = 65_536
"""Slots of which description, newest health and snapshot are kept, about 2 KiB each in all. More: fewer records read
again and fewer snapshots made anew in large registries; smaller ones keep all."""


class NodeCache:
    """By slot. Not thread-safe: the registry's lock guards it."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._bases: dict[int, Node] = {}
        self._healths: dict[int, NodeHealth] = {}
        self._made: dict[int, Node] = {}

    def reported(self, slot: int, health: NodeHealth) -> None:
        """The node has a new sample. It is kept for a node that is being asked for; the table has it in any case."""
        if slot in self._bases:
            self._healths[slot] = health
            self._made.pop(slot, None)

    def changed(self, slot: int) -> None:
        """Its health or liveness changed otherwise."""
        self._healths.pop(slot, None)
        self._made.pop(slot, None)

    def forget(self, slot: int) -> None:
        """Its record changed, or it is gone."""
        self._bases.pop(slot, None)
        self.changed(slot)

    def get(self, slot: int) -> Optional[Node]:
        """The node as it is now, or None when its record must be read first."""
        node = self._made.get(slot)
        if node is None:
            base = self._bases.get(slot)
            if base is None:
                return None
            node = self._made[slot] = node_snapshot(base, *self.view(slot))
        return node

    def all_of(self, slots: list[int]) -> tuple[list[Optional[Node]], list[int]]:
        """`get` for each slot, and the places in the list where a record must be read first."""
        found = [self.get(slot) for slot in slots]
        return found, [place for place, node in enumerate(found) if node is None]

    def view(self, slot: int) -> tuple[NodeHealth, Liveness]:
        """What changes about the node without its record."""
        health = self._healths.get(slot)
        if health is None:
            health = self._table.slots.health(slot)
        return health, self._table.liveness(slot)

    def made_of(self, slot: int, record: NodeRecord, view: tuple[NodeHealth, Liveness]) -> Node:
        """The node as this record and view say; the record's part is kept."""
        base = record.node
        if base.scheduling is Scheduling.CORDONED and not self._table.slots.cordoned[slot]:
            base = node_with(base, scheduling=Scheduling.ELIGIBLE, cordon=None)  # the cordon's time is over
        if len(self._bases) >= MOST_KEPT:
            self._bases.clear()
            self._healths.clear()
            self._made.clear()
        self._bases[slot] = base
        return node_snapshot(base, *view)
