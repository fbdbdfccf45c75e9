"""Searches for nodes. A search that must examine many nodes runs in a thread, one at a time; others run at once.

Not here: finding nodes (`NodeRegistry`), parsing queries (`http.query_params`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Optional, Union

from duxnet.coordinator.access.places import Holder, WaitingPlaces
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.query.node_query import NodePage, NodeQuery

__all__ = ["NodeSearch", "Damaged"]

LOOK_AT_MOST = 1000
"""How many nodes a page with `min_uptime_probability` examines, at 0.1 ms each. A higher number gives fuller pages, but
longer waits for other callers."""
MOST_WAITING = 8
"""Maximum number of waiting searches without a token, and of those with one."""


class NodeSearch:
    """Used in one event loop."""

    def __init__(self, registry: NodeRegistry) -> None:
        self.damaged = Damaged(registry)
        self._places = WaitingPlaces(MOST_WAITING, "searches examine many nodes", retry_after_seconds=5)
        self._strangers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-question")
        self._known = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-question-by-token")

    def find(self, query: NodeQuery, holder: Callable[[], Holder]) -> Union[NodePage, Awaitable[NodePage]]:
        """Returns the page without damaged nodes, or an awaitable of it; see `NodeRegistry.find_nodes`.

        `holder` returns the caller; it is called only if the search has to wait.
        """
        if query.limit is not None and not query.min_uptime_probability:
            return self.damaged.find(query)
        return self.find_in_thread(query, holder())

    async def find_in_thread(self, query: NodeQuery, holder: Holder) -> NodePage:
        """As `find`, in a thread. Raises Refused if too many wait. A search cancelled while it waits never runs.

        Callers with a token have their own thread, so they do not wait for searches of other clients.
        """
        look_at_most = None if query.limit is None else LOOK_AT_MOST
        thread = self._known if holder.has_token else self._strangers
        with self._places.taken(holder):
            return await asyncio.get_running_loop().run_in_executor(
                thread, lambda: self.damaged.find(query, look_at_most)
            )

    def close(self) -> None:
        """Finish the searches in progress."""
        self._strangers.shutdown(wait=True)
        self._known.shutdown(wait=True)


_log = logging.getLogger("duxnet.coordinator")

LOGGED_ONE_BY_ONE = 1000
"""How many damaged nodes are logged by name."""


class Damaged:
    """The nodes found damaged so far. Thread-safe."""

    def __init__(self, registry: NodeRegistry) -> None:
        self._registry = registry
        self._logged = 0

    def __len__(self) -> int:
        return self._registry.host.left_out

    def note(self, error: StoreError) -> bool:
        """Leave out the node that the error names as damaged. Returns False if it was left out already."""
        if not isinstance(error, DamagedStoreError) or error.node_id is None:
            return True
        if not self._registry.host.leave_out(error):
            return False
        self._logged += 1
        if self._logged <= LOGGED_ONE_BY_ONE:
            _log.error(
                "%s is left out of lists: %s; `duxnet registry verify` lists all damaged records: restore a backup, or "
                "remove, ban or overwrite the node",
                error.node_id,
                error,
            )
        elif self._logged == LOGGED_ONE_BY_ONE + 1:
            _log.error("more records are damaged and not logged: see `duxnet registry verify`")
        return True

    def find(self, query: NodeQuery, look_at_most: Optional[int] = None) -> NodePage:
        """As `NodeRegistry.find_nodes`, without damaged nodes, whose number is in the page."""
        return self._registry.find_nodes(query, look_at_most=look_at_most, unreadable=self.note)
