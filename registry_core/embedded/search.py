"""From a query to a page: the slots to read, the cursor of the next page, and `min_uptime_probability`.

No index covers `min_uptime_probability`: nodes and their evidence are read page by page, at about 0.1 ms per node.
Slots are selected in `table.select`, records read in `live_state`, and the probability is computed in
`rules.reputation.availability`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Callable, Optional, TypeVar

from registry_core.embedded.live_state import LiveState
from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.models.node import Node
from registry_core.query.conditions import LIKELY_TO_STAY, Subject
from registry_core.query.node_query import NodeOrder, NodePage, NodeQuery
from registry_core.storage.store import Unreadable
from registry_core.table.node_table import NodeTable
from registry_core.table.select import Place, place_of, select

__all__ = ["count_nodes", "find_nodes"]

_FEWEST_AT_ONCE = 64
_CURSOR = re.compile(r"~([0-9]{1,3})~([0-9]{1,18})\Z")


SELECTED_AT_MOST = 4
"""Maximum number of attempts to fill a page when damaged records are found."""
LOOKED_AHEAD = 1_000
"""Number of nodes checked for further damage before the next attempt, which takes about 10 ms."""

T = TypeVar("T")
ExpectedUptime = Callable[[Node, Optional[Unreadable]], float]


def find_nodes(
    live_state: LiveState,
    query: NodeQuery,
    expected_uptime: ExpectedUptime,
    unreadable: Optional[Unreadable],
    look_at_most: Optional[int],
) -> NodePage:
    """The page of nodes that match the query.

    Damaged nodes are passed to `unreadable` and omitted; without `unreadable` the first one's error is raised.
    `look_at_most` limits `min_uptime_probability`: the search stops after this many nodes and returns the matches so
    far with a cursor after the last node examined. A random order has no cursor and draws from this many candidates.
    """
    if query.min_uptime_probability > 0.0:
        found = _find_likely_to_stay(live_state, query, expected_uptime, unreadable, look_at_most)
    else:
        found = _whole(live_state, query, _selected, unreadable)
    nodes, cursor = found
    return NodePage(nodes, cursor, False, live_state.left_out)


def count_nodes(live_state: LiveState, query: NodeQuery, expected_uptime: ExpectedUptime) -> int:
    """The number of nodes that match the query; order and page are ignored."""
    if query.min_uptime_probability > 0.0:
        every = replace(query, order=NodeOrder.REPUTATION, limit=None, after=None)
        return len(_find_likely_to_stay(live_state, every, expected_uptime, None, None)[0])
    with live_state.locked() as table:
        return table.index().count(query)


def _whole(
    live_state: LiveState,
    query: NodeQuery,
    select: Callable[[NodeTable, NodeQuery], tuple[list[int], T]],
    unreadable: Optional[Unreadable],
) -> tuple[list[Node], T]:
    """The nodes that `select` finds, without damaged ones, and the second value that `select` returns.

    A damaged node is omitted from all later results too. To fill the page nevertheless, the next nodes are checked for
    damage and the query is repeated.
    """
    if unreadable is None:
        return live_state.nodes(lambda table: select(table, query))
    for _ in range(SELECTED_AT_MOST):
        found, was_damaged = _leaving_out(live_state, query, select, unreadable)
        if not was_damaged or query.limit is None:
            break
        _leaving_out(live_state, replace(query, limit=max(query.limit, LOOKED_AHEAD)), select, unreadable)
    return found


def _leaving_out(
    live_state: LiveState,
    query: NodeQuery,
    select: Callable[[NodeTable, NodeQuery], tuple[list[int], T]],
    unreadable: Unreadable,
) -> tuple[tuple[list[Node], T], bool]:
    """The undamaged part of a result, and whether a node was damaged; damaged nodes are omitted from now on."""
    damaged: list[DamagedStoreError] = []
    found = live_state.nodes(lambda table: select(table, query), damaged.append)
    for error in damaged:
        unreadable(error)
        live_state.leave_out(error.node_id)
    return found, bool(damaged)


def _selected(table: NodeTable, query: NodeQuery) -> tuple[list[int], Optional[str]]:
    """The slots that match the query, and the cursor of the next page if there is one."""
    behind = None if query.after is None else _place(query.after, table)
    if query.limit is None or query.order is not NodeOrder.REPUTATION:
        return select(table, query, behind, query.limit), None  # a random order has no next page
    slots = select(table, query, behind, query.limit + 1)  # one more, to know whether there are more
    if len(slots) <= query.limit:
        return slots, None
    slots.pop()
    return slots, cursor_behind(place_of(table.slots, slots[-1])) if slots else None


def _selected_with_places(
    table: NodeTable, query: NodeQuery
) -> tuple[list[int], tuple[Optional[str], dict[Optional[str], Place]]]:
    """As `_selected`, with the place of each node in addition to the cursor."""
    slots, cursor = _selected(table, query)
    return slots, (cursor, {table.slots.ids[slot]: place_of(table.slots, slot) for slot in slots})


def cursor_behind(place: Place) -> str:
    """A cursor that continues after this place, even if the node there is removed."""
    return "~{}~{}".format(*place)


def _place(cursor: str, table: NodeTable) -> Place:
    form = _CURSOR.match(cursor)
    if form is not None:
        return min(int(form[1]), 500), int(form[2])
    slot = table.slots.by_id.get(cursor)
    if slot is None:
        raise ValidationError("after", cursor, "must be a cursor of an earlier page or the id of a node")
    return place_of(table.slots, slot)


def _find_likely_to_stay(
    live_state: LiveState,
    query: NodeQuery,
    expected_uptime: ExpectedUptime,
    unreadable: Optional[Unreadable],
    look_at_most: Optional[int],
) -> tuple[list[Node], Optional[str]]:
    by_reputation = query.order is NodeOrder.REPUTATION
    most = None if query.limit is None else max(_FEWEST_AT_ONCE, query.limit)
    if not by_reputation:
        most = look_at_most
    elif look_at_most is not None:
        most = min(most or look_at_most, look_at_most)
    candidates = replace(query, min_uptime_probability=0.0, limit=most)
    found: list[Node] = []
    last: Optional[Place] = None
    looked_at = 0
    while True:
        nodes, (cursor, places) = _whole(live_state, candidates, _selected_with_places, unreadable)
        looked_at += len(nodes) or most or 1  # 0: all nodes of this page were damaged
        for node in nodes:
            if query.limit is not None and len(found) >= query.limit:
                return found, cursor_behind(last) if by_reputation and last is not None else None
            if LIKELY_TO_STAY.holds(Subject(node, expected_uptime(node, unreadable)), query.min_uptime_probability):
                found.append(node)
                last = places[node.id]
        if cursor is None or (look_at_most is not None and looked_at >= look_at_most):
            return found, cursor
        candidates = replace(candidates, after=cursor)
