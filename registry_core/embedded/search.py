"""Nodes that will probably stay: the condition of a query that no index holds, because it moves with every hour.

Here: asking for nodes in pages and reading the evidence of those that meet every other condition. What it costs goes by
how many it looks at, about 0.1 ms each. Not here: the probability itself (`rules.reputation.availability`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Optional

from registry_core.embedded.live_state import NodePage
from registry_core.models.node import Node
from registry_core.query.node_query import NodeOrder, NodeQuery

__all__ = ["find_staying"]

_FEWEST_AT_ONCE = 64


def find_staying(
    find: Callable[[NodeQuery], NodePage],
    uptime: Callable[[Node], float],
    query: NodeQuery,
    look_at_most: Optional[int] = None,
) -> NodePage:
    """The answer to `query`, its `min_uptime_probability` included; `find` answers all its other conditions.

    `look_at_most`: after so many nodes it stops with what it found, and a cursor to go on behind the last one looked
    at; a draw, which has no cursor, is then one of so many candidates.
    """
    most = None if query.limit is None else max(_FEWEST_AT_ONCE, query.limit)
    if query.order is not NodeOrder.REPUTATION:
        most = look_at_most
    elif look_at_most is not None:
        most = min(most or look_at_most, look_at_most)
    asked = replace(query, min_uptime_probability=0.0, limit=most)
    found: list[Node] = []
    looked_at = 0
    while True:
        page = find(asked)
        looked_at += len(page.nodes) or most or 1  # none: all that were met are damaged
        for node in page.nodes:
            if query.limit is not None and len(found) >= query.limit:
                goes_on = query.order is NodeOrder.REPUTATION and bool(found)
                return NodePage(found, found[-1].id if goes_on else None)
            if uptime(node) >= query.min_uptime_probability:
                found.append(node)
        if page.next is None or (look_at_most is not None and looked_at >= look_at_most):
            return NodePage(found, page.next)
        asked = replace(asked, after=page.next)
