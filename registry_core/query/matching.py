"""Whether a node answers a query, and if not, why: the table of conditions applied to one node.

`matches` is the definition. The index must find exactly the nodes that it names.
"""

from __future__ import annotations

from registry_core.models.node import Node
from registry_core.query.conditions import Failing, Subject
from registry_core.query.node_query import NodeQuery

__all__ = ["failing", "matches"]


def matches(node: Node, query: NodeQuery, expected_uptime: float = 1.0) -> bool:
    """True when `node` meets every condition of `query`; order, limit and cursor are not looked at."""
    subject = Subject(node, expected_uptime)
    return all(condition.holds(subject, wanted) for condition, wanted in query.conditions())


def failing(node: Node, query: NodeQuery, expected_uptime: float = 1.0) -> list[Failing]:
    """Everything that keeps `node` out of the answer to `query`, apart from order, limit and cursor.

    `expected_uptime` is the node's probability to stay, for a query with `min_uptime_probability`.
    """
    subject = Subject(node, expected_uptime)
    return [
        item
        for condition, wanted in query.conditions()
        if not condition.holds(subject, wanted)
        for item in condition.failing(subject, wanted)
    ]
