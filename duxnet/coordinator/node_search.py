"""Questions for nodes: a page is found at once, what must look at many nodes in a thread, one after the other.

Here: which goes where, and how many may wait. Not here: finding (`NodeRegistry`), queries from requests (`requests`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Optional, Union

from duxnet.coordinator.places import Holder, WaitingPlaces
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.query.node_query import NodePage, NodeQuery

__all__ = ["NodeSearch", "Damaged"]

LOOK_AT_MOST = 1000
"""Nodes that a page looks at for `min_uptime_probability`, 0.1 ms each. More: fuller pages, longer waits for others."""
MOST_WAITING = 8
"""Questions of strangers that may wait, and as many of callers with a token."""


class NodeSearch:
    """Belongs to one event loop."""

    def __init__(self, registry: NodeRegistry) -> None:
        self.damaged = Damaged(registry)
        self._places = WaitingPlaces(MOST_WAITING, "questions look at many nodes", retry_after_seconds=5)
        self._strangers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-question")
        self._known = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-question-by-token")

    def find(self, query: NodeQuery, holder: Callable[[], Holder]) -> Union[NodePage, Awaitable[NodePage]]:
        """What answers the query, without damaged nodes, or what to await for it; see `NodeRegistry.find_nodes`.

        `holder` says who asks, where that is to be known.
        """
        if query.limit is not None and not query.min_uptime_probability:
            return self.damaged.find(query)
        return self.find_in_thread(query, holder())

    async def find_in_thread(self, query: NodeQuery, holder: Holder) -> NodePage:
        """As `find`. Raises Refused where too many wait already. A question whose caller is cancelled is not looked up.

        Who has a token waits for no stranger's question.
        """
        look_at_most = None if query.limit is None else LOOK_AT_MOST
        thread = self._known if holder.has_token else self._strangers
        with self._places.taken(holder):
            return await asyncio.get_running_loop().run_in_executor(
                thread, lambda: self.damaged.find(query, look_at_most)
            )

    def close(self) -> None:
        """Finish what is being answered."""
        self._strangers.shutdown(wait=True)
        self._known.shutdown(wait=True)


_log = logging.getLogger("duxnet.coordinator")

LOGGED_ONE_BY_ONE = 1000
"""So many are named in the log; of more it says only that there are more."""


class Damaged:
    """The nodes that were found damaged so far. Thread-safe."""

    def __init__(self, registry: NodeRegistry) -> None:
        self._registry = registry
        self._logged = 0

    def __len__(self) -> int:
        return self._registry.host.left_out

    def note(self, error: StoreError) -> bool:
        """Leave the node out that this error is about, if it says that one record is damaged. False: it was already."""
        if not isinstance(error, DamagedStoreError) or error.node_id is None:
            return True
        if not self._registry.host.leave_out(error):
            return False
        self._logged += 1
        if self._logged <= LOGGED_ONE_BY_ONE:
            _log.error(
                "%s is left out of lists: %s; `duxnet registry verify` names all that is damaged: restore a backup, or "
                "remove, ban or overwrite the node",
                error.node_id,
                error,
            )
        elif self._logged == LOGGED_ONE_BY_ONE + 1:
            _log.error("more records are damaged: the rest is not named here, see `duxnet registry verify`")
        return True

    def find(self, query: NodeQuery, look_at_most: Optional[int] = None) -> NodePage:
        """As `NodeRegistry.find_nodes`, without the damaged ones, which the page counts."""
        return self._registry.find_nodes(query, look_at_most=look_at_most, unreadable=self.note)
