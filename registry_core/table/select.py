"""The slots that match a query, in one of the four orders: by reputation, random, by least load, or exploring.

`index` finds the slots that meet the conditions; records and cursors are handled in `embedded.search`.
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
"""Ready candidates drawn for each node that `order="least_loaded"` returns. More find lower loads but take longer."""

Place = tuple[int, int]
"""A position in the order by reputation: the score in hundredths and the sequence number of the registration."""


def select(table: NodeTable, query: NodeQuery, behind: Optional[Place], limit: Optional[int]) -> list[int]:
    """The first `limit` slots that match the query, in its order, after the place `behind` if it is given."""
    if query.order is NodeOrder.EXPLORE:
        return _explored(table, query, limit)
    if query.order is not NodeOrder.REPUTATION:
        return _drawn(table, query, limit)
    first = None if behind is None else (behind[0], bisect_right(table.slots.sequence, behind[1]))
    return table.index().best(query, limit, first)


def place_of(slots: Slots, slot: int) -> Place:
    """The slot's position in the order by reputation."""
    return slots.score[slot], slots.sequence[slot]


def _drawn(table: NodeTable, query: NodeQuery, limit: Optional[int]) -> list[int]:
    slots = table.slots
    least_loaded = query.order is NodeOrder.LEAST_LOADED
    if least_loaded and not query.only_healthy:
        query = replace(query, only_healthy=True)
    wanted = limit if limit is None or not least_loaded else limit * DRAWN_FOR_EACH
    drawn = first_drawn(Draw(query.seed, len(slots.ids)), table.index().exactly(query), wanted)
    if least_loaded:
        drawn.sort(key=lambda slot: _load(slots, slot))  # equal loads stay in the order drawn
        drawn = drawn if limit is None else drawn[:limit]
    return drawn


def _load(slots: Slots, slot: int) -> float:
    """The load per CPU; infinite if it is unknown, so that it comes last."""
    first = slot * GAUGES
    load = load_per_cpu(slots.gauges[first + LOAD], slots.gauges[first + CPUS])
    return load if load is not None and load == load else math.inf


def _explored(table: NodeTable, query: NodeQuery, limit: Optional[int]) -> list[int]:
    index = table.index()
    found = index.exactly(query)
    ranked = index.ranked(found - index.newcomers, limit)
    drawn = first_drawn(Draw(query.seed, len(table.slots.ids)), found & index.newcomers, limit)
    return list(islice(explored(ranked, drawn, str(query.seed), DEFAULT_POLICY.explore_share), limit))
