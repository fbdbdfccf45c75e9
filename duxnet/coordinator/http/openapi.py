"""The shapes of answers for the OpenAPI document: what `models.encoding` writes, as types.

Here: descriptions only. The answers themselves are written by the encoder that files and commands use as well.
"""

from __future__ import annotations

from typing import Any, Literal, Optional

import msgspec

__all__ = ["Count", "Explanation", "NodePage", "NodeView", "Outcome", "ReputationView", "StatusView"]

State = Literal["ok", "critical", "unknown"]


class GpuView(msgspec.Struct):
    """One GPU, or one MIG instance."""

    vendor: str
    model: str
    memory_gb: float
    uuid: str
    driver_version: str
    usable: bool
    reason: str


class CapabilitiesView(msgspec.Struct):
    """What a node offers to work; GB is 10⁹ bytes."""

    cpu_cores: int
    memory_gb: float
    storage_gb: float
    gpu_enabled: bool
    gpus: list[GpuView]
    cpu_quota: Optional[float]
    host_cpus: Optional[int]
    physical_cores: Optional[int]
    cpu_model: str
    architecture: str
    kernel: str


class ConditionsView(msgspec.Struct):
    """How each gauge stands against its threshold."""

    load: State
    memory: State
    disk: State


class HealthView(msgspec.Struct):
    """The newest sample. null: not reported."""

    load_average: Optional[float]
    memory_usage: Optional[float]
    disk_usage: Optional[float]
    last_heartbeat: Optional[str]
    conditions: ConditionsView


class CordonView(msgspec.Struct):
    """Why a node gets no new work."""

    reason: str
    actor: str
    until: Optional[str]


class NodeView(msgspec.Struct):
    """One node as it is now. Addresses are shown to callers with a token.

    `extra` has what the node sent and this version does not know; absent where there is nothing.
    """

    id: str
    wallet_address: str
    capabilities: CapabilitiesView
    port: Optional[int]
    hostname: str
    os_version: str
    agent_version: str
    public_key: str
    tags: dict[str, str]
    health: HealthView
    reputation: float
    registered_at: Optional[str]
    admission: Literal["pending", "probation", "approved", "suspended", "banned"]
    admission_reason: str
    liveness: Literal["live", "suspect", "down", "left"]
    scheduling: Literal["eligible", "cordoned"]
    cordon: Optional[CordonView]
    is_healthy: bool
    is_ready: bool
    ip_address: str = ""
    addresses: list[str] = []
    extra: dict[str, Any] = {}


class NodePage(msgspec.Struct):
    """Some nodes, and the cursor behind them (null: there are no more). `degraded`: silent nodes may be alive.

    `damaged_nodes`: so many nodes no list holds, since what is kept of them cannot be read.
    """

    schema: str
    nodes: list[NodeView]
    next: Optional[str]
    degraded: bool
    damaged: int


class Count(msgspec.Struct):
    """How many nodes answer a query."""

    count: int


class EvidenceView(msgspec.Struct):
    """Weighted outcomes."""

    successes: float
    failures: float


class ReputationView(msgspec.Struct):
    """What the registry thinks of a node, and why."""

    score: float
    posterior_mean: float
    evidence: dict[str, EvidenceView]
    standing: str
    reasons: list[str]


class FailingView(msgspec.Struct):
    """A condition that a node fails."""

    condition: str
    wanted: str
    found: str
    remedy: str


class Explanation(msgspec.Struct):
    """Whether a node answers a query, and if not, why not."""

    selected: bool
    failing: list[FailingView]


class Outcome(msgspec.Struct):
    """Something was done."""

    done: bool


class StatusView(msgspec.Struct):
    """How the coordinator fares."""

    status: str
    degraded: bool
    breakers: list[str]
    time: str


class EventView(msgspec.Struct):
    """One change."""

    index: int
    at: Optional[str]
    kind: str
    node_id: str
    details: dict[str, str]


class EventPage(msgspec.Struct):
    """Events after an index; follow from `last`."""

    events: list[EventView]
    last: int


class ScrapeTarget(msgspec.Struct):
    """One node for Prometheus' http_sd."""

    targets: list[str]
    labels: dict[str, str]
