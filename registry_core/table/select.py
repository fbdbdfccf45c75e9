"""Which slots answer a query, in its order: by reputation, drawn, by least load, or exploring.

Here: the four orders. Not here: which slots meet the conditions (`index`), records and cursors (`embedded.search`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from itertools import islice
from typing import Optional

from registry_core.query.node_query import NodeOrder, NodeQuery
from registry_core.rules.health import load_per_cpu
from registry_core.rules.reputation import DEFAULT_POLICY, explored
from registry_core.table.draw import Draw, first_drawn
from registry_core.table.node_table import NodeTable
from registry_core.table.slots import CPUS, GAUGES, LOAD, Slots

__all__ = ["Place", "place_of", "select"]

DRAWN_FOR_EACH = 8
"""Ready candidates drawn for each node that `order="least_loaded"` shall return. More: closer to the least, slower."""

Place = tuple[int, int]
"""Where a slot stands in the order by reputation: its score in hundredths, and its sequence of registration."""


def select(table: NodeTable, query: NodeQuery, behind: Optional[Place], limit: Optional[int]) -> list[int]:
    """The first `limit` slots that answer the query, in its order; those behind a place where one is given."""
    if query.order is NodeOrder.EXPLORE:
        return _explored(table, query, limit)
    if query.order is not NodeOrder.REPUTATION:
        return _drawn(table, query, limit)
    first = None if behind is None else (behind[0], bisect_right(table.slots.sequence, behind[1]))
    return table.index().best(query, limit, first)


def place_of(slots: Slots, slot: int) -> Place:
    """Where the slot stands in the order by reputation."""
    return slots.score[slot], slots.sequence[slot]


def _drawn(table: NodeTable, query: NodeQuery, limit: Optional[int]) -> list[int]:
    slots = table.slots
    least_loaded = query.order is NodeOrder.LEAST_LOADED
    if least_loaded and not query.only_healthy:
        query = replace(query, only_healthy=True)
    wanted = limit if limit is None or not least_loaded else limit * DRAWN_FOR_EACH
    drawn = first_drawn(Draw(query.seed, len(slots.ids)), table.index().exactly(query), wanted)
    if least_loaded:
        drawn.sort(key=lambda slot: _load(slots, slot))  # ties stay as drawn
        drawn = drawn if limit is None else drawn[:limit]
    return drawn


def _load(slots: Slots, slot: int) -> float:
    """The load for each CPU; one that is not known comes last."""
    first = slot * GAUGES
    load = load_per_cpu(slots.gauges[first + LOAD], slots.gauges[first + CPUS])
    return load if load is not None and load == load else math.inf


def _explored(table: NodeTable, query: NodeQuery, limit: Optional[int]) -> list[int]:
    index = table.index()
    found = index.exactly(query)
    ranked = index.ranked(found - index.newcomers, limit)
    drawn = first_drawn(Draw(query.seed, len(table.slots.ids)), found & index.newcomers, limit)
    return list(islice(explored(ranked, drawn, str(query.seed), DEFAULT_POLICY.explore_share), limit))
