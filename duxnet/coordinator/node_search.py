"""Questions for nodes: a page is found at once, what must look at many nodes in a thread, one after the other.

Here: which goes where, and how many may wait. Not here: finding (`NodeRegistry`), queries from requests (`requests`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Optional

from duxnet.coordinator.errors import Refused
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.query.node_query import NodePage, NodeQuery

__all__ = ["NodeSearch", "Damaged"]

LOOK_AT_MOST = 1000
"""Nodes that a page looks at for `min_uptime_probability`, 0.1 ms each. More: fuller pages, longer waits for others."""
MOST_WAITING = 16


class NodeSearch:
    """Belongs to one event loop."""

    def __init__(self, registry: NodeRegistry) -> None:
        self.damaged = Damaged(registry)
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-question")

    async def find(self, query: NodeQuery) -> NodePage:
        """What answers the query, without damaged nodes; see `NodeRegistry.find_nodes`.

        Raises Refused where too many wait already.
        """
        if query.limit is not None and not query.min_uptime_probability:
            return self.damaged.find(query)
        if self._waiting >= MOST_WAITING:
            raise Refused("busy", "too many ask what looks at many nodes", retry_after_seconds=5)
        look_at_most = None if query.limit is None else LOOK_AT_MOST
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self.damaged.find(query, look_at_most)
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what is being answered."""
        self._thread.shutdown(wait=True)


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
        """As `NodeRegistry.find_nodes`, without the damaged ones, which the page counts.

        Raises DamagedStoreError where there are more than one question finds.
        """
        return self._find(query, look_at_most)._replace(damaged=len(self._ids))

    def _find(self, query: NodeQuery, look_at_most: Optional[int]) -> NodePage:
        for _ in range(FOUND_AT_ONCE):
            narrowed = self.without(query)
            try:
                return self._registry.find_nodes(narrowed, look_at_most=look_at_most)
            except DamagedStoreError as error:
                self.note(error)
                if error.node_id not in self._ids.difference(narrowed.exclude):
                    raise
        return self._registry.find_nodes(self.without(query), look_at_most=look_at_most)
