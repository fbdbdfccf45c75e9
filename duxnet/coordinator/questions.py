"""Questions for nodes: a page is found at once, what must look at many nodes in a thread, one after the other.

Here: which goes where, and how many may wait. Not here: finding (`NodeRegistry`), queries from requests (`requests`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from duxnet.coordinator.damaged import Damaged
from duxnet.coordinator.problems import Refused
from registry_core.models.query import NodeQuery
from registry_core.node_registry import NodeRegistry
from registry_core.visible import NodePage

__all__ = ["Questions"]

LOOK_AT_MOST = 1000
"""Nodes that a page looks at for `min_uptime_probability`, 0.1 ms each. More: fuller pages, longer waits for others."""
MOST_WAITING = 16


class Questions:
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
