"""A node's description: `Node`, its capabilities and GPUs. Constructors check every field and silently change none.

`encoding` has the JSON form; `rules` decides which fields may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.addresses import canonical_address
from registry_core.models.frozen import FrozenMap, frozen_json_map
from registry_core.models.ids import key_from_text, node_id_of_key, random_node_id
from registry_core.models.own_names import OWN_NAMES
from registry_core.models.status import Admission, Cordon, Liveness, NodeHealth, Scheduling

__all__ = ["Gpu", "Node", "NodeCapabilities"]


_NOTHING: FrozenMap[str, Any] = FrozenMap()


def _nothing() -> FrozenMap[str, Any]:
    """One empty map for all records. A factory, since Python 3.9 rejects every dict as a mutable default."""
    return _NOTHING


def _set(record: object, name: str, value: object) -> None:
    """Set a field of a frozen record to its canonical form, in its constructor."""
    object.__setattr__(record, name, value)


def _items(field_name: str, value: object, most: int) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
        raise ValidationError(field_name, value, "must be a list")
    if len(value) > most:
        raise ValidationError(field_name, len(value), f"must hold at most {most} items")
    return tuple(value)


def _checked_gpus(value: object) -> tuple[Gpu, ...]:
    gpus = _items("gpus", value, limits.MAX_GPUS)
    for index, gpu in enumerate(gpus):
        limits.instance(f"gpus[{index}]", gpu, Gpu)
    return gpus


def _checked_addresses(value: object) -> tuple[str, ...]:
    items = _items("addresses", value, limits.MAX_ADDRESSES)
    return tuple(canonical_address(f"addresses[{index}]", item) for index, item in enumerate(items))


def _checked_tags(value: object) -> FrozenMap[str, str]:
    if type(value) is FrozenMap and not value:
        return value
    if not isinstance(value, Mapping):
        raise ValidationError("tags", value, "must map text to text")
    if len(value) > limits.MAX_TAGS:
        raise ValidationError("tags", len(value), f"must hold at most {limits.MAX_TAGS} tags")
    for key, tag in value.items():
        limits.text("tags", key, "tag key", empty=False)
        limits.text(f"tags.{key}", tag, "tag value")
    return FrozenMap(value)


def _checked_extra(value: object) -> FrozenMap[str, Any]:
    frozen = frozen_json_map("extra", value)
    if frozen:
        owned = OWN_NAMES.intersection(frozen)
        if owned:
            raise ValidationError("extra", sorted(owned), "must not contain names that are reserved for the registry")
        for name in frozen:
            limits.text("extra", name, "extra name", empty=False)
    return frozen


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG instance. `memory_gb` is in 10⁹ bytes, 0 when unknown (integrated GPUs have none).

    `shared_memory_gb` is how much of the machine's memory it may use; that is also part of the machine's `memory_gb`.

    A GPU that is present but cannot do work has `usable=False` and the cause in `reason`.
    """

    vendor: str = ""
    model: str = ""
    memory_gb: float = 0.0
    uuid: str = ""
    driver_version: str = ""
    usable: bool = True
    reason: str = ""
    shared_memory_gb: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vendor", "model", "uuid", "driver_version", "reason"):
            limits.text(name, getattr(self, name), f"gpu.{name}")
        _set(self, "memory_gb", limits.number("memory_gb", self.memory_gb, 0, limits.MAX_GPU_MEMORY_GB))
        shared = limits.number("shared_memory_gb", self.shared_memory_gb, 0, limits.MAX_MEMORY_GB)
        _set(self, "shared_memory_gb", shared)
        limits.boolean("usable", self.usable)
        if self.usable and self.reason:
            raise ValidationError(
                "reason", self.reason, "must be empty for a usable GPU: it is the reason why a GPU is not usable"
            )


@dataclass(frozen=True)
class NodeCapabilities:
    """The resources that a node offers. GB is 10⁹ bytes. In `min_capabilities` a field at its default demands nothing.

    `cpu_cores` is the number of usable logical CPUs (0: unknown), `cpu_quota` the fractional limit in CPUs, if any,
    `host_cpus` the number of logical CPUs of the whole host (a load average is a host-wide figure). If `gpu_enabled` is
    not given, it is True when at least one of `gpus` is usable.
    """

    cpu_cores: int = 0
    memory_gb: float = 0.0
    storage_gb: float = 0.0
    gpu_enabled: bool = None  # type: ignore[assignment]  # None: derived from gpus in __post_init__
    gpus: tuple[Gpu, ...] = ()
    cpu_quota: Optional[float] = None
    host_cpus: Optional[int] = None
    physical_cores: Optional[int] = None
    cpu_model: str = ""
    architecture: str = ""
    kernel: str = ""

    def __post_init__(self) -> None:
        _set(self, "cpu_cores", limits.integer("cpu_cores", self.cpu_cores, 0, limits.MAX_CPUS))
        _set(self, "memory_gb", limits.number("memory_gb", self.memory_gb, 0, limits.MAX_MEMORY_GB))
        _set(self, "storage_gb", limits.number("storage_gb", self.storage_gb, 0, limits.MAX_STORAGE_GB))
        _set(self, "gpus", _checked_gpus(self.gpus))
        _set(self, "gpu_enabled", self._agreed_gpu_enabled())
        quota = limits.optional_number("cpu_quota", self.cpu_quota, 0, limits.MAX_CPUS)
        if quota == 0:
            raise ValidationError("cpu_quota", self.cpu_quota, "must be above 0, or absent when there is no quota")
        _set(self, "cpu_quota", quota)
        for name in ("host_cpus", "physical_cores"):
            limits.optional_integer(name, getattr(self, name), 1, limits.MAX_CPUS)
        for name in ("cpu_model", "architecture", "kernel"):
            limits.text(name, getattr(self, name), name)

    def _agreed_gpu_enabled(self) -> bool:
        usable = any(gpu.usable for gpu in self.gpus)
        given: Optional[bool] = self.gpu_enabled  # the field's type is that of the finished record
        if given is None:
            return usable
        limits.boolean("gpu_enabled", given)
        if self.gpus and given != usable:  # True without a list is legal: "it has one, details not known"
            listed = "a usable GPU" if usable else "no usable GPU"
            raise ValidationError("gpu_enabled", given, f"must agree with gpus, which lists {listed}")
        return given


@dataclass(frozen=True)
class Node:
    """One machine: a snapshot of the registry's state of it. Only `ip_address` is required.

    `reputation` is the score, 0 to 5. `registered_at` is UTC. Health, reputation, the status axes and `registered_at`
    belong to the registry: in a record passed to `register_node` they are ignored. `extra` holds fields that the node
    sent and this version does not know; names that are reserved for the registry are not allowed in it.
    """

    ip_address: str
    wallet_address: str = ""
    capabilities: NodeCapabilities = NodeCapabilities()
    id: str = ""
    addresses: tuple[str, ...] = ()
    port: Optional[int] = None
    hostname: str = ""
    os_version: str = ""
    agent_version: str = ""
    public_key: str = ""
    tags: Mapping[str, str] = field(default_factory=_nothing)
    health: NodeHealth = NodeHealth()
    reputation: float = 0.0
    registered_at: Optional[datetime] = None
    admission: Admission = Admission.PROBATION
    admission_reason: str = ""
    liveness: Liveness = Liveness.LIVE
    scheduling: Scheduling = Scheduling.ELIGIBLE
    cordon: Optional[Cordon] = None
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)

    def __post_init__(self) -> None:
        _set(self, "ip_address", canonical_address("ip_address", self.ip_address))
        _set(self, "addresses", _checked_addresses(self.addresses))
        for name in ("wallet_address", "hostname", "os_version", "agent_version"):
            limits.text(name, getattr(self, name), name)
        limits.text("admission_reason", self.admission_reason, "reason")
        limits.optional_time("registered_at", self.registered_at)
        if self.cordon is not None:
            limits.instance("cordon", self.cordon, Cordon)
        limits.optional_integer("port", self.port, 1, 65535)
        limits.instance("capabilities", self.capabilities, NodeCapabilities)
        limits.instance("health", self.health, NodeHealth)
        _set(self, "reputation", limits.number("reputation", self.reputation, 0, 5))
        _set(self, "admission", limits.choice("admission", self.admission, Admission))
        _set(self, "liveness", limits.choice("liveness", self.liveness, Liveness))
        _set(self, "scheduling", limits.choice("scheduling", self.scheduling, Scheduling))
        _set(self, "tags", _checked_tags(self.tags))
        _set(self, "extra", _checked_extra(self.extra))
        _set(self, "id", self._settled_id())

    def _settled_id(self) -> str:
        if self.public_key != "":
            key = key_from_text("public_key", self.public_key)
            return limits.identifier("id", self.id) if self.id != "" else node_id_of_key(key)
        return limits.identifier("id", self.id) if self.id != "" else random_node_id()

    @property
    def is_healthy(self) -> bool:
        """No critical condition."""
        return self.health.is_healthy

    @property
    def is_ready(self) -> bool:
        """Whether it may get work now: approved or on probation, live, eligible and healthy."""
        return (
            self.admission in (Admission.APPROVED, Admission.PROBATION)
            and self.liveness is Liveness.LIVE
            and self.scheduling is Scheduling.ELIGIBLE
            and self.is_healthy
        )
