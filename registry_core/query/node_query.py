"""What can be asked of a registry, as one checked value, and the answer: a page of nodes.

Here: the fields, the order and the page. What each condition means and how it is checked is its row in `conditions`.
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
    """Some of the nodes that answer a query, and the cursor behind them (None: there are no more).

    `degraded`: so many nodes went silent at once that the registry marks none of them down until they recover.
    `damaged` nodes are in no list, since the registry cannot read what it keeps of them.
    """

    nodes: list[Node]
    next: Optional[str]
    degraded: bool = False
    damaged: int = 0


class NodeOrder(str, Enum):
    """In which order nodes come. Each is the same for the same registry, question and seed.

    `explore` is by reputation, but gives nodes on probation a share of the places (5 %), drawn by the seed, so that
    they can prove themselves. They must meet every condition: `min_reputation` above 0.25 leaves most of them out.
    """

    REPUTATION = "reputation"
    RANDOM = "random"
    LEAST_LOADED = "least_loaded"
    EXPLORE = "explore"

    def __str__(self) -> str:
        return str(self.value)


ORDER_PARAMETERS = (
    Parameter("order", str, "The order of the nodes", words=tuple(order.value for order in NodeOrder)),
    Parameter("seed", int, "Fixes what the orders random, least_loaded and explore draw", 0, 2**63 - 1),
)
"""How the order stands in a URL and on the command line."""


@dataclass(frozen=True)
class NodeQuery:
    """The arguments of `list_nodes` and `count_nodes`, checked. Raises ValidationError naming the argument.

    A condition at its default demands nothing. `only_healthy` means `Node.is_ready`. `after` is a cursor of an earlier
    answer: the listing goes on behind it. `seed` fixes what `order="random"`, `"least_loaded"` and `"explore"` draw.
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
        if type(self.seed) is not int or self.seed:  # nearly every query leaves it at 0
            limits.integer("seed", self.seed, 0, 2**64 - 1)
        if self.limit is not None:
            limits.integer("limit", self.limit, 0, MAX_LIMIT)
        if self.after is not None:
            limits.text("after", self.after, "id", empty=False)
            if self.order is not NodeOrder.REPUTATION:
                raise ValidationError("after", self.after, "goes with order='reputation' only; the others are draws")

    def conditions(self) -> Iterator[tuple[Condition[Any], Any]]:
        """The conditions that demand something, each with what it wants."""
        values = self.__dict__
        for condition in CONDITIONS:
            wanted = values[condition.field]
            if wanted is not condition.default and wanted != condition.default:
                yield condition, wanted

    def matches(self, node: Node, expected_uptime: float = 1.0) -> bool:
        """True when `node` meets every condition; order, limit and cursor do not count.

        This is the definition: the index must find exactly the nodes that it names. `expected_uptime` is the node's
        probability to stay, for `min_uptime_probability`.
        """
        subject = Subject(node, expected_uptime)
        return all(condition.holds(subject, wanted) for condition, wanted in self.conditions())

    def failing(self, node: Node, expected_uptime: float = 1.0) -> list[Failing]:
        """Everything that keeps `node` from matching."""
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
        """The query that parameters of a URL or of the command line ask, by name and in their own types."""
        wanted = {condition.field: condition.from_parameters(given) for condition in CONDITIONS}
        order = {parameter.name: given[parameter.name] for parameter in ORDER_PARAMETERS if parameter.name in given}
        return cls(**wanted, **order, limit=limit, after=after)

    def to_parameters(self) -> dict[str, Any]:
        """The parameters that `from_parameters` reads as this query, its limit and cursor left out."""
        parameters: dict[str, Any] = {}
        for condition, wanted in self.conditions():
            parameters.update(condition.to_parameters(wanted))
        if self.order is not NodeOrder.REPUTATION:
            parameters.update(order=self.order.value, seed=self.seed)
        return parameters


_CHECKS = tuple((row.field, getattr(NodeQuery, row.field, row.default), row.checked) for row in CONDITIONS)
"""The default is the field's own object, which needs no look."""
