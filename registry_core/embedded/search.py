"""From a query to a page: which slots to read, the cursor behind them, and the condition that no index holds.

Here: cursors, and `min_uptime_probability`, for which nodes are read page by page and their evidence with them. That
costs about 0.1 ms for each node looked at. Not here: which slots answer (`table.select`), reading records
(`live_state`), the probability itself (`rules.reputation.availability`).
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
"""How often one question is put anew after damaged records were found, so that its page is full all the same."""
LOOKED_AHEAD = 1_000
"""So many nodes are looked at for more of them before it is put anew, about 10 ms."""

T = TypeVar("T")
ExpectedUptime = Callable[[Node, Optional[Unreadable]], float]


def find_nodes(
    live_state: LiveState,
    query: NodeQuery,
    expected_uptime: ExpectedUptime,
    unreadable: Optional[Unreadable],
    look_at_most: Optional[int],
) -> NodePage:
    """The page that answers the query. Damaged nodes are told to `unreadable` and left out; without it one is raised.

    `look_at_most` bounds `min_uptime_probability`: after this many nodes it stops with what it found, and a cursor to
    go on behind the last one looked at; a draw, which has no cursor, is then one of this many candidates.
    """
    if query.min_uptime_probability > 0.0:
        found = _find_likely_to_stay(live_state, query, expected_uptime, unreadable, look_at_most)
    else:
        found = _whole(live_state, query, _selected, unreadable)
    nodes, cursor = found
    return NodePage(nodes, cursor, False, live_state.left_out)


def count_nodes(live_state: LiveState, query: NodeQuery, expected_uptime: ExpectedUptime) -> int:
    """How many nodes meet the query, whatever its order and page."""
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
    """The nodes that `select` finds, without those that are damaged, and what it returns beside them.

    A damaged node is left out of every answer from now on. So that the page is full all the same, the question is put
    anew, after a look at the next nodes for more of them.
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
    """What is whole of an answer, and whether something was damaged, which is left out from now on."""
    damaged: list[DamagedStoreError] = []
    found = live_state.nodes(lambda table: select(table, query), damaged.append)
    for error in damaged:
        unreadable(error)
        live_state.leave_out(error.node_id)
    return found, bool(damaged)


def _selected(table: NodeTable, query: NodeQuery) -> tuple[list[int], Optional[str]]:
    """The slots that answer the query, and the cursor behind them if there are more."""
    behind = None if query.after is None else _place(query.after, table)
    if query.limit is None or query.order is not NodeOrder.REPUTATION:
        return select(table, query, behind, query.limit), None  # a draw has no cursor, and no more to draw
    slots = select(table, query, behind, query.limit + 1)  # one more, to know whether there are more
    if len(slots) <= query.limit:
        return slots, None
    slots.pop()
    return slots, cursor_behind(place_of(table.slots, slots[-1])) if slots else None


def _selected_with_places(
    table: NodeTable, query: NodeQuery
) -> tuple[list[int], tuple[Optional[str], dict[Optional[str], Place]]]:
    """As `_selected`, with the place of each node beside the cursor."""
    slots, cursor = _selected(table, query)
    return slots, (cursor, {table.slots.ids[slot]: place_of(table.slots, slot) for slot in slots})


def cursor_behind(place: Place) -> str:
    """The cursor by value: it goes on behind this place, whatever becomes of the node there."""
    return "~{}~{}".format(*place)


def _place(cursor: str, table: NodeTable) -> Place:
    form = _CURSOR.match(cursor)
    if form is not None:
        return min(int(form[1]), 500), int(form[2])
    slot = table.slots.by_id.get(cursor)
    if slot is None:
        raise ValidationError("after", cursor, "must be a cursor of an earlier answer, or the id of a node")
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
        looked_at += len(nodes) or most or 1  # none: all that were met are damaged
        for node in nodes:
            if query.limit is not None and len(found) >= query.limit:
                return found, cursor_behind(last) if by_reputation and last is not None else None
            if LIKELY_TO_STAY.holds(Subject(node, expected_uptime(node, unreadable)), query.min_uptime_probability):
                found.append(node)
                last = places[node.id]
        if cursor is None or (look_at_most is not None and looked_at >= look_at_most):
            return found, cursor
        candidates = replace(candidates, after=cursor)
