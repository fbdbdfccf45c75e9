"""What can be asked of a registry, as one checked value. Every field at its default demands nothing.

Here: the fields and their checks. Not here: what a node must be to match (`rules.matching`), the index (`table`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import NodeCapabilities

__all__ = ["NO_TAGS", "GpuDemand", "NodeOrder", "NodeQuery"]

MAX_LIMIT = 2**31 - 1
NO_TAGS: Mapping[str, str] = FrozenMap()
MAX_EXCLUDED = 1_000_000


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


@dataclass(frozen=True)
class GpuDemand:
    """At least `count` usable GPUs in one node, each of this vendor and model and with this much memory.

    `vendor` must be equal and `model` must be part of the node's, both whatever their case. `memory_gb` is for
    each GPU, in 10⁹ bytes.
    """

    count: int = 1
    vendor: str = ""
    model: str = ""
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        limits.integer("count", self.count, 1, limits.MAX_GPUS)
        object.__setattr__(self, "vendor", limits.text("vendor", self.vendor, "gpu.vendor").lower())
        object.__setattr__(self, "model", limits.text("model", self.model, "gpu.model").lower())
        checked = limits.number("memory_gb", self.memory_gb, 0, limits.MAX_GPU_MEMORY_GB)
        object.__setattr__(self, "memory_gb", checked)


@dataclass(frozen=True)
class NodeQuery:
    """The arguments of `list_nodes` and `count_nodes`, checked. Raises ValidationError naming the argument.

    `only_healthy` means `Node.is_ready`. `after` is a cursor of an earlier answer: the listing goes on behind
    it. `seed` fixes what `order="random"`, `"least_loaded"` and `"explore"` draw.
    """

    min_reputation: float = 0.0
    only_healthy: bool = False
    min_capabilities: Optional[NodeCapabilities] = None
    wallet_address: Optional[str] = None
    gpus: Optional[GpuDemand] = None
    tags: Mapping[str, str] = field(default_factory=FrozenMap)
    exclude: Collection[str] = ()
    order: NodeOrder = NodeOrder.REPUTATION
    seed: int = 0
    limit: Optional[int] = None
    after: Optional[str] = None
    min_uptime_probability: float = 0.0

    def __post_init__(self) -> None:
        _put(self, "min_reputation", limits.number("min_reputation", self.min_reputation, 0, 5))
        limits.boolean("only_healthy", self.only_healthy)
        if self.min_capabilities is not None:
            limits.instance("min_capabilities", self.min_capabilities, NodeCapabilities)
            _refuse_details(self.min_capabilities)
        if self.wallet_address is not None:
            limits.text("wallet_address", self.wallet_address, "wallet_address")
        if self.gpus is not None:
            limits.instance("gpus", self.gpus, GpuDemand)
        if self.tags:
            _put(self, "tags", _checked_tags(self.tags))
        elif not isinstance(self.tags, Mapping):
            raise ValidationError("tags", self.tags, "must map text to text")
        if self.exclude != ():
            _put(self, "exclude", _checked_ids(self.exclude))
        _put(self, "order", limits.choice("order", self.order, NodeOrder))
        limits.integer("seed", self.seed, 0, 2**64 - 1)
        limits.optional_integer("limit", self.limit, 0, MAX_LIMIT)
        uptime = limits.number("min_uptime_probability", self.min_uptime_probability, 0, 1)
        _put(self, "min_uptime_probability", uptime)
        self._check_cursor()

    def _check_cursor(self) -> None:
        if self.after is None:
            return
        limits.text("after", self.after, "id", empty=False)
        if self.order is not NodeOrder.REPUTATION:
            raise ValidationError("after", self.after, "goes with order='reputation' only; the others are draws")


def _put(record: object, name: str, value: object) -> None:
    object.__setattr__(record, name, value)


def _refuse_details(demand: NodeCapabilities) -> None:
    rule = "is a detail that no query can demand; ask for cpu_cores, memory_gb, storage_gb, gpu_enabled"
    for name in ("cpu_quota", "host_cpus", "physical_cores"):
        if getattr(demand, name) is not None:
            raise ValidationError(f"min_capabilities.{name}", getattr(demand, name), rule)
    for name in ("cpu_model", "architecture", "kernel"):
        if getattr(demand, name):
            raise ValidationError(f"min_capabilities.{name}", getattr(demand, name), rule)
    if demand.gpus:
        raise ValidationError("min_capabilities.gpus", demand.gpus, "cannot be demanded here; use gpus=GpuDemand(…)")


def _checked_tags(value: object) -> FrozenMap[str, str]:
    if not isinstance(value, Mapping):
        raise ValidationError("tags", value, "must map text to text")
    if len(value) > limits.MAX_TAGS:
        raise ValidationError("tags", len(value), f"must hold at most {limits.MAX_TAGS} tags")
    for key, tag in value.items():
        limits.text("tags", key, "tag key", empty=False)
        limits.text(f"tags.{key}", tag, "tag value")
    return FrozenMap(value)


def _checked_ids(value: object) -> frozenset[str]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise ValidationError("exclude", value, "must be a collection of node ids")
    if len(value) > MAX_EXCLUDED:
        raise ValidationError("exclude", len(value), f"must hold at most {MAX_EXCLUDED} ids")
    return frozenset(limits.identifier("exclude", item) for item in value)
