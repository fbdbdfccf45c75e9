"""Nodes whose records are damaged: every list goes on without them, and the operator is told.

Here: asking again without a node that was found damaged, and which they are. They stay left out until the coordinator
is started anew, since nothing mends a record while it runs. Not here: finding the damage (`registry_core.storage`).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Optional

from registry_core.errors import DamagedStoreError, StoreError
from registry_core.models.query import NodeQuery
from registry_core.node_registry import NodeRegistry
from registry_core.visible import NodePage

__all__ = ["Damaged"]

_log = logging.getLogger("duxnet.coordinator")

FOUND_AT_ONCE = 16
"""So many are found by one question, which is asked again after each: 10 ms for a page of 1,000. Another finds more."""
MOST_LEFT_OUT = 1000
"""Of more the lists fail: that is no registry to choose nodes from."""


class Damaged:
    """The nodes that were found damaged so far. Thread-safe."""

    def __init__(self, registry: NodeRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._ids: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._ids)

    def note(self, error: StoreError) -> None:
        """Leave the node out that this error is about, if it says that one record is damaged."""
        node_id = error.node_id if isinstance(error, DamagedStoreError) else None
        with self._lock:
            if node_id is None or node_id in self._ids or len(self._ids) >= MOST_LEFT_OUT:
                return
            self._ids |= {node_id}
        _log.error(
            "%s is left out of lists: %s; `duxnet registry verify` names all that is damaged: restore a backup",
            node_id,
            error,
        )

    def without(self, query: NodeQuery) -> NodeQuery:
        """The query for all other nodes."""
        return replace(query, exclude={*query.exclude, *self._ids}) if self._ids else query

    def find(self, query: NodeQuery, look_at_most: Optional[int] = None) -> NodePage:
        """As `NodeRegistry.find_nodes`, without the damaged ones. Raises DamagedStoreError where that is not enough."""
        for _ in range(FOUND_AT_ONCE):
            asked = self.without(query)
            try:
                return self._registry.find_nodes(asked, look_at_most=look_at_most)
            except DamagedStoreError as error:
                self.note(error)
                if error.node_id not in self._ids.difference(asked.exclude):
                    raise
        return self._registry.find_nodes(self.without(query), look_at_most=look_at_most)
