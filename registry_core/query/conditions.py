"""The table of conditions that a query can place on nodes: one row for each such field of `NodeQuery`.

A row defines its condition completely: the validation of its value, whether a node meets it (`holds`), what a node that
fails it lacks (`failing`), and its parameters in a URL, in OpenAPI and on the command line. Matching, explaining,
`query.url`, the coordinator and the command line are loops over `CONDITIONS`. Only the bitmap index has a method of its
own for each row, for speed; tests/table/test_index.py compares it with `holds`.

To add a condition, add a row here, its typed field in `NodeQuery` and an index method. A row without a method is an
error when `table.index` is imported; a row without a field, or a field without a row, fails a test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Optional, TypeVar

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.columns import GpuGroup, hundredths
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.status import Admission, Liveness, Scheduling
from registry_core.models.status import Condition as GaugeCondition

__all__ = [
    "CONDITIONS",
    "NO_TAGS",
    "Condition",
    "Failing",
    "GpuDemand",
    "LIKELY_TO_STAY",
    "Parameter",
    "Subject",
    "has_gpus",
    "least_hundredths",
    "withheld",
]

NO_TAGS: FrozenMap[str, str] = FrozenMap()
MAX_EXCLUDED = 1_000_000

W = TypeVar("W")


@dataclass(frozen=True)
class Failing:
    """A condition that a node fails: its name, the value wanted, the value found, and a remedy."""

    condition: str
    wanted: str
    found: str
    remedy: str


class Subject(NamedTuple):
    """The input of conditions: a node as callers see it, and what only its registry knows about it."""

    node: Node
    expected_uptime: float = 1.0
    """The probability that the node, live now, stays live for the next 6 hours; only set if a query requires it."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a URL and, under the same name with dashes, an option of the command line.

    `kind` is float, int, bool or str; `least` and `most` bound a number, or the length of a text; `words` are the only
    values allowed. `many`: it can be repeated. `option` is the option's name if it differs.
    """

    name: str
    kind: type
    help: str
    least: Optional[float] = None
    most: Optional[float] = None
    words: tuple[str, ...] = ()
    many: bool = False
    option: str = ""
    metavar: Optional[str] = None


class Condition(ABC, Generic[W]):
    """One row. `W` is the type of the query's `field`; its `default` accepts every node."""

    field: str
    default: W
    parameters: tuple[Parameter, ...]
    narrows_index = True
    """Whether the index has a method for it. If False, the row explains how it is applied."""

    @abstractmethod
    def checked(self, wanted: object) -> W:
        """The value of `wanted` in its canonical form. Raises ValidationError naming the field."""

    @abstractmethod
    def holds(self, subject: Subject, wanted: W) -> bool:
        """Whether the node meets the condition. This is the definition; the index must find exactly these nodes."""

    @abstractmethod
    def failing(self, subject: Subject, wanted: W) -> list[Failing]:
        """What a node that does not meet the condition lacks, with remedies. At least one entry."""

    def from_parameters(self, given: Mapping[str, Any]) -> W:
        """The value of the condition from the given parameters, by name and in their own types."""
        value: W = given.get(self.parameters[0].name, self.default)
        return value

    def to_parameters(self, wanted: W) -> dict[str, Any]:
        """The parameters from which `from_parameters` returns `wanted`, without those at their default."""
        return {self.parameters[0].name: wanted}


class _MinReputation(Condition[float]):
    """Scores are compared after rounding to 0.01. The index visits scores from the best down and stops at this one."""

    field = "min_reputation"
    default = 0.0
    parameters = (Parameter("min_reputation", float, "Minimum reputation, 0 to 5", 0, 5),)
    narrows_index = False

    def checked(self, wanted: object) -> float:
        return limits.number("min_reputation", wanted, 0, 5)

    def holds(self, subject: Subject, wanted: float) -> bool:
        return hundredths(subject.node.reputation) >= least_hundredths(wanted)

    def failing(self, subject: Subject, wanted: float) -> list[Failing]:
        least = f"{least_hundredths(wanted) / 100:.2f}"
        return [Failing("min_reputation", least, f"{subject.node.reputation:.2f}", "complete more tasks successfully")]


class _OnlyHealthy(Condition[bool]):
    field = "only_healthy"
    default = False
    parameters = (Parameter("only_healthy", bool, "Only nodes that are ready for work", option="healthy"),)

    def checked(self, wanted: object) -> bool:
        return limits.boolean("only_healthy", wanted)

    def holds(self, subject: Subject, wanted: bool) -> bool:
        return subject.node.is_ready or not wanted

    def failing(self, subject: Subject, wanted: bool) -> list[Failing]:  # noqa: ARG002 - always True
        node = subject.node
        found = withheld(node)
        if node.liveness is not Liveness.LIVE:
            remedy = "check that its agent is running and can reach the registry"
            found.append(Failing("liveness", "live", str(node.liveness), remedy))
        gauges = node.health.conditions
        checked = (("load", gauges.load), ("memory usage", gauges.memory), ("disk usage", gauges.disk))
        for gauge, condition in checked:
            if condition is GaugeCondition.CRITICAL:
                name = f"condition {gauge.split()[0]}"
                found.append(Failing(name, "ok", "critical", f"reduce the node's {gauge}"))
        return found


class _MinCapabilities(Condition[Optional[NodeCapabilities]]):
    """A field at its default requires nothing; minimums are inclusive and compared as IEEE doubles."""

    field = "min_capabilities"
    default = None
    parameters = (
        Parameter("min_cpu_cores", int, "Minimum number of usable CPUs", 0, limits.MAX_CPUS),
        Parameter("min_memory_gb", float, "Minimum memory, in GB (10⁹ bytes)", 0),
        Parameter("min_storage_gb", float, "Minimum storage, in GB (10⁹ bytes)", 0),
        Parameter("gpu", bool, "Only nodes with a usable GPU"),
    )

    def checked(self, wanted: object) -> Optional[NodeCapabilities]:
        if wanted is None:
            return None
        limits.instance("min_capabilities", wanted, NodeCapabilities)
        assert isinstance(wanted, NodeCapabilities)
        _refuse_details(wanted)
        return wanted

    def holds(self, subject: Subject, wanted: Optional[NodeCapabilities]) -> bool:
        offer = subject.node.capabilities
        return wanted is None or (
            offer.cpu_cores >= wanted.cpu_cores
            and offer.memory_gb >= wanted.memory_gb
            and offer.storage_gb >= wanted.storage_gb
            and (offer.gpu_enabled or not wanted.gpu_enabled)
        )

    def failing(self, subject: Subject, wanted: Optional[NodeCapabilities]) -> list[Failing]:
        offer = subject.node.capabilities
        assert wanted is not None
        sizes: tuple[tuple[str, float, float], ...] = (
            ("cpu_cores", wanted.cpu_cores, offer.cpu_cores),
            ("memory_gb", wanted.memory_gb, offer.memory_gb),
            ("storage_gb", wanted.storage_gb, offer.storage_gb),
        )
        found = [
            Failing(name, f"at least {least:g}", f"{has:g}", "use a larger node")
            for name, least, has in sizes
            if has < least
        ]
        if wanted.gpu_enabled and not offer.gpu_enabled:
            reasons = ", ".join(gpu.reason for gpu in offer.gpus if gpu.reason) or "none"
            found.append(Failing("gpu_enabled", "a usable GPU", reasons, "run duxnet probe on the node"))
        return found

    def from_parameters(self, given: Mapping[str, Any]) -> Optional[NodeCapabilities]:
        sizes = (given.get("min_cpu_cores", 0), given.get("min_memory_gb", 0.0), given.get("min_storage_gb", 0.0))
        gpu = given.get("gpu", False)
        return NodeCapabilities(*sizes, gpu) if gpu or any(sizes) else None

    def to_parameters(self, wanted: Optional[NodeCapabilities]) -> dict[str, Any]:
        assert wanted is not None
        every = {
            "min_cpu_cores": wanted.cpu_cores,
            "min_memory_gb": wanted.memory_gb,
            "min_storage_gb": wanted.storage_gb,
            "gpu": wanted.gpu_enabled,
        }
        return {name: value for name, value in every.items() if value}


@dataclass(frozen=True)
class GpuDemand:
    """At least `count` usable GPUs in one node, each of this vendor and model and with at least this memory.

    `vendor` must equal the GPU's vendor and `model` must be part of its model name; case is ignored. `memory_gb` is the
    minimum for each GPU, in 10⁹ bytes: its own memory or, with `or_shared`, memory that it shares with the machine.
    """

    count: int = 1
    vendor: str = ""
    model: str = ""
    memory_gb: float = 0.0
    or_shared: bool = False

    def __post_init__(self) -> None:
        limits.boolean("or_shared", self.or_shared)
        limits.integer("count", self.count, 1, limits.MAX_GPUS)
        object.__setattr__(self, "vendor", limits.text("vendor", self.vendor, "gpu.vendor").lower())
        object.__setattr__(self, "model", limits.text("model", self.model, "gpu.model").lower())
        checked = limits.number("memory_gb", self.memory_gb, 0, limits.MAX_GPU_MEMORY_GB)
        object.__setattr__(self, "memory_gb", checked)


class _Gpus(Condition[Optional[GpuDemand]]):
    field = "gpus"
    default = None
    parameters = (
        Parameter(
            "gpu_count",
            int,
            "Minimum number of usable GPUs with the given vendor, model and memory",
            0,
            limits.MAX_GPUS,
        ),
        Parameter("gpu_vendor", str, "Vendor of the GPUs", most=128),
        Parameter("gpu_model", str, "Part of the GPUs' model name", most=128),
        Parameter("gpu_memory_gb", float, "Minimum memory of each GPU, in GB (10⁹ bytes)", 0),
        Parameter("gpu_shared", bool, "Also count memory that a GPU shares with its machine"),
    )

    def checked(self, wanted: object) -> Optional[GpuDemand]:
        if wanted is None:
            return None
        limits.instance("gpus", wanted, GpuDemand)
        assert isinstance(wanted, GpuDemand)
        return wanted

    def holds(self, subject: Subject, wanted: Optional[GpuDemand]) -> bool:
        if wanted is None:
            return True
        usable = (gpu for gpu in subject.node.capabilities.gpus if gpu.usable)
        groups = tuple(
            GpuGroup(1, gpu.vendor.lower(), gpu.model.lower(), gpu.memory_gb, gpu.shared_memory_gb) for gpu in usable
        )
        return has_gpus(groups, wanted)

    def failing(self, subject: Subject, wanted: Optional[GpuDemand]) -> list[Failing]:
        assert wanted is not None
        gpus = subject.node.capabilities.gpus
        held = ", ".join(
            f"{gpu.vendor} {gpu.model} {gpu.memory_gb:g} GB"
            + (f" and {gpu.shared_memory_gb:g} GB shared" if gpu.shared_memory_gb else "")
            for gpu in gpus
        )
        held = held or "none"
        return [Failing("gpus", f"at least {wanted.count} matching", held, "run duxnet probe on the node")]

    def from_parameters(self, given: Mapping[str, Any]) -> Optional[GpuDemand]:
        count, vendor, model = given.get("gpu_count", 0), given.get("gpu_vendor", ""), given.get("gpu_model", "")
        memory_gb, or_shared = given.get("gpu_memory_gb", 0.0), given.get("gpu_shared", False)
        wanted = count or vendor or model or memory_gb or or_shared
        return GpuDemand(count or 1, vendor, model, memory_gb, or_shared) if wanted else None

    def to_parameters(self, wanted: Optional[GpuDemand]) -> dict[str, Any]:
        assert wanted is not None
        every = {
            "gpu_vendor": wanted.vendor,
            "gpu_model": wanted.model,
            "gpu_memory_gb": wanted.memory_gb,
            "gpu_shared": wanted.or_shared,
        }
        return {"gpu_count": wanted.count, **{name: value for name, value in every.items() if value}}


class _WalletAddress(Condition[Optional[str]]):
    """The empty text selects nodes without a wallet."""

    field = "wallet_address"
    default = None
    parameters = (Parameter("wallet", str, "Only nodes with this wallet; empty: only nodes without one", most=128),)

    def checked(self, wanted: object) -> Optional[str]:
        return None if wanted is None else limits.text("wallet_address", wanted, "wallet_address")

    def holds(self, subject: Subject, wanted: Optional[str]) -> bool:
        return wanted is None or subject.node.wallet_address == wanted

    def failing(self, subject: Subject, wanted: Optional[str]) -> list[Failing]:
        assert wanted is not None
        return [Failing("wallet", wanted, subject.node.wallet_address, "register with that wallet")]


class _Tags(Condition[Mapping[str, str]]):
    """A node must carry all of the tags."""

    field = "tags"
    default: Mapping[str, str] = NO_TAGS
    parameters = (
        Parameter(
            "tag", str, "Only nodes with this tag (repeatable: with all of them)", many=True, metavar="KEY=VALUE"
        ),
    )

    def checked(self, wanted: object) -> Mapping[str, str]:
        if not isinstance(wanted, Mapping):
            raise ValidationError("tags", wanted, "must map text to text")
        if len(wanted) > limits.MAX_TAGS:
            raise ValidationError("tags", len(wanted), f"must hold at most {limits.MAX_TAGS} tags")
        for key, tag in wanted.items():
            limits.text("tags", key, "tag key", empty=False)
            limits.text(f"tags.{key}", tag, "tag value")
        return FrozenMap(wanted)

    def holds(self, subject: Subject, wanted: Mapping[str, str]) -> bool:
        tags = subject.node.tags
        return all(tags.get(key) == value for key, value in wanted.items())

    def failing(self, subject: Subject, wanted: Mapping[str, str]) -> list[Failing]:
        tags, remedy = subject.node.tags, "set the tag in the agent's settings"
        lacking = ((key, value) for key, value in wanted.items() if tags.get(key) != value)
        return [Failing(f"tag {key}", value, tags.get(key, ""), remedy) for key, value in lacking]

    def from_parameters(self, given: Mapping[str, Any]) -> Mapping[str, str]:
        tags: dict[str, str] = {}
        for text in given.get("tag", ()):
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise ValidationError("tag", text, "must be KEY=VALUE")
            if tags.setdefault(key, value) != value:
                raise ValidationError("tag", text, "must not give a second value for the same key")
        return tags

    def to_parameters(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        return {"tag": [f"{key}={value}" for key, value in wanted.items()]}


class _Exclude(Condition[Collection[str]]):
    field = "exclude"
    default: Collection[str] = ()
    parameters = (Parameter("exclude", str, "Exclude this node (repeatable)", many=True, metavar="ID"),)

    def checked(self, wanted: object) -> Collection[str]:
        if isinstance(wanted, (str, bytes)) or not isinstance(wanted, Collection):
            raise ValidationError("exclude", wanted, "must be a collection of node ids")
        if len(wanted) > MAX_EXCLUDED:
            raise ValidationError("exclude", len(wanted), f"must hold at most {MAX_EXCLUDED} ids")
        return frozenset(limits.identifier("exclude", item) for item in wanted) or ()

    def holds(self, subject: Subject, wanted: Collection[str]) -> bool:
        return subject.node.id not in wanted

    def failing(self, subject: Subject, wanted: Collection[str]) -> list[Failing]:  # noqa: ARG002 - it contains the id
        return [Failing("exclude", "another node", subject.node.id, "remove it from exclude")]

    def to_parameters(self, wanted: Collection[str]) -> dict[str, Any]:
        return {"exclude": sorted(wanted)}


class _MinUptimeProbability(Condition[float]):
    """No index covers it, since it changes every hour: `embedded.search` checks it node by node."""

    field = "min_uptime_probability"
    default = 0.0
    parameters = (
        Parameter(
            "min_uptime_probability", float, "Minimum probability, 0 to 1, of staying live for the next 6 hours", 0, 1
        ),
    )
    narrows_index = False

    def checked(self, wanted: object) -> float:
        return limits.number("min_uptime_probability", wanted, 0, 1)

    def holds(self, subject: Subject, wanted: float) -> bool:
        return subject.expected_uptime >= wanted

    def failing(self, subject: Subject, wanted: float) -> list[Failing]:
        found = f"{subject.expected_uptime:.3f}"
        return [Failing("min_uptime_probability", f"{wanted:g}", found, "keep the node live for more hours")]


LIKELY_TO_STAY = _MinUptimeProbability()

CONDITIONS: tuple[Condition[Any], ...] = (
    _MinReputation(),
    _OnlyHealthy(),
    _MinCapabilities(),
    _Gpus(),
    _WalletAddress(),
    _Tags(),
    _Exclude(),
    LIKELY_TO_STAY,
)
"""In the order of documentation, command-line options and explanations."""


def least_hundredths(min_reputation: float) -> int:
    """The lowest score, in hundredths, that satisfies `min_reputation`.

    Scores are rounded to 0.01 before they are compared, so 3.03 requires 3.03, and 3.031 requires 3.04.
    """
    least = int(min_reputation * 100)
    while least > 0 and (least - 1) / 100 >= min_reputation:
        least -= 1
    while least / 100 < min_reputation:
        least += 1
    return least


def has_gpus(groups: tuple[GpuGroup, ...], demand: GpuDemand) -> bool:
    """Whether a node with these usable GPUs has enough that match the demand."""
    matching = 0
    for group in groups:
        if (
            (not demand.vendor or group.vendor == demand.vendor)
            and demand.model in group.model
            and max(group.memory_gb, group.shared_memory_gb if demand.or_shared else 0.0) >= demand.memory_gb
        ):
            matching += group.number
    return matching >= demand.count


def withheld(node: Node) -> list[Failing]:
    """The conditions of admission and scheduling that keep `node` from getting work, regardless of its health."""
    found = []
    if node.admission not in (Admission.APPROVED, Admission.PROBATION):
        reason = f"{node.admission} ({node.admission_reason})" if node.admission_reason else str(node.admission)
        found.append(Failing("admission", "approved or probation", reason, "an operator must approve the node"))
    if node.scheduling is not Scheduling.ELIGIBLE:
        reason = node.cordon.reason if node.cordon is not None else ""
        found.append(Failing("scheduling", "eligible", f"cordoned ({reason})", "an operator must uncordon the node"))
    return found


def _refuse_details(demand: NodeCapabilities) -> None:
    rule = "cannot be part of a query; use cpu_cores, memory_gb, storage_gb or gpu_enabled"
    for name in ("cpu_quota", "host_cpus", "physical_cores"):
        if getattr(demand, name) is not None:
            raise ValidationError(f"min_capabilities.{name}", getattr(demand, name), rule)
    for name in ("cpu_model", "architecture", "kernel"):
        if getattr(demand, name):
            raise ValidationError(f"min_capabilities.{name}", getattr(demand, name), rule)
    if demand.gpus:
        raise ValidationError(
            "min_capabilities.gpus", demand.gpus, "cannot be part of min_capabilities; use gpus=GpuDemand(…)"
        )
