"""A query for nodes as one validated value, and its result, a page of nodes.

This module defines the fields, orders and pages; each condition is defined and checked by its row in `conditions`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.node import Node, NodeCapabilities
from registry_core.query.conditions import CONDITIONS, NO_TAGS, Condition, Failing, GpuDemand, Parameter, Subject

__all__ = ["NO_TAGS", "ORDER_PARAMETERS", "GpuDemand", "NodeOrder", "NodePage", "NodeQuery"]

MAX_LIMIT = 2**31 - 1


class NodePage(NamedTuple):
    """Some of the nodes that match a query, and the cursor of the next page (None: this is the last one).

    `degraded`: many nodes went silent at once; until they recover, the registry marks none of them down.
    `damaged`: the number of nodes that are omitted from all lists because their records cannot be read.
    """

    nodes: list[Node]
    next: Optional[str]
    degraded: bool = False
    damaged: int = 0


class NodeOrder(str, Enum):
    """The order of nodes in a result. The same registry state, query and seed give the same order.

    `explore` is by reputation, but gives 5 % of the places to nodes on probation, drawn by the seed, so that they can
    prove themselves. They must meet every condition: a `min_reputation` above 0.25 excludes most of them.
    """

    REPUTATION = "reputation"
    RANDOM = "random"
    LEAST_LOADED = "least_loaded"
    EXPLORE = "explore"

    def __str__(self) -> str:
        return str(self.value)


ORDER_PARAMETERS = (
    Parameter("order", str, "Order of the nodes", words=tuple(order.value for order in NodeOrder)),
    Parameter("seed", int, "Seed of the random choice in the orders random, least_loaded and explore", 0, 2**63 - 1),
)
"""The parameters of the order, in a URL and on the command line."""


@dataclass(frozen=True)
class NodeQuery:
    """The validated arguments of `list_nodes` and `count_nodes`. Raises ValidationError naming the argument.

    A condition at its default accepts every node. `only_healthy` means `Node.is_ready`. `after` is a cursor of an
    earlier page, after which the list continues. `seed` determines the random choice of `order="random"`,
    `"least_loaded"` and `"explore"`.
    """

    min_reputation: float = 0.0
    only_healthy: bool = False
    min_capabilities: Optional[NodeCapabilities] = None
    wallet_address: Optional[str] = None
    gpus: Optional[GpuDemand] = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    exclude: Collection[str] = ()
    order: NodeOrder = NodeOrder.REPUTATION
    seed: int = 0
    limit: Optional[int] = None
    after: Optional[str] = None
    min_uptime_probability: float = 0.0

    def __post_init__(self) -> None:
        values = self.__dict__
        for name, default, checked in _CHECKS:
            wanted = values[name]
            if wanted is not default:
                values[name] = checked(wanted)
        if type(self.order) is not NodeOrder:
            values["order"] = limits.choice("order", self.order, NodeOrder)
        if type(self.seed) is not int or self.seed:  # nearly all queries leave it at 0
            limits.integer("seed", self.seed, 0, 2**64 - 1)
        if self.limit is not None:
            limits.integer("limit", self.limit, 0, MAX_LIMIT)
        if self.after is not None:
            limits.text("after", self.after, "id", empty=False)
            if self.order is not NodeOrder.REPUTATION:
                raise ValidationError(
                    "after", self.after, "can only be used in the order reputation; the other orders are random"
                )

    def conditions(self) -> Iterator[tuple[Condition[Any], Any]]:
        """The conditions that are not at their default, each with its value."""
        values = self.__dict__
        for condition in CONDITIONS:
            wanted = values[condition.field]
            if wanted is not condition.default and wanted != condition.default:
                yield condition, wanted

    def matches(self, node: Node, expected_uptime: float = 1.0) -> bool:
        """Whether `node` meets every condition; order, limit and cursor are ignored.

        This is the definition; the index must find exactly these nodes. `expected_uptime` is the node's probability to
        stay live, for `min_uptime_probability`.
        """
        subject = Subject(node, expected_uptime)
        return all(condition.holds(subject, wanted) for condition, wanted in self.conditions())

    def failing(self, node: Node, expected_uptime: float = 1.0) -> list[Failing]:
        """Each condition that `node` fails."""
        subject = Subject(node, expected_uptime)
        return [
            item
            for condition, wanted in self.conditions()
            if not condition.holds(subject, wanted)
            for item in condition.failing(subject, wanted)
        ]

    @classmethod
    def from_parameters(
        cls, given: Mapping[str, Any], limit: Optional[int] = None, after: Optional[str] = None
    ) -> NodeQuery:
        """The query from the parameters of a URL or the command line, by name and in their own types."""
        wanted = {condition.field: condition.from_parameters(given) for condition in CONDITIONS}
        order = {parameter.name: given[parameter.name] for parameter in ORDER_PARAMETERS if parameter.name in given}
        return cls(**wanted, **order, limit=limit, after=after)

    def to_parameters(self) -> dict[str, Any]:
        """The parameters from which `from_parameters` returns this query, except its limit and cursor."""
        parameters: dict[str, Any] = {}
        for condition, wanted in self.conditions():
            parameters.update(condition.to_parameters(wanted))
        if self.order is not NodeOrder.REPUTATION:
            parameters.update(order=self.order.value, seed=self.seed)
        return parameters


_CHECKS = tuple((row.field, getattr(NodeQuery, row.field, row.default), row.checked) for row in CONDITIONS)
"""The checks of the conditions; a value that is the field's default object needs none."""
