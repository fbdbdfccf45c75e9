"""The four independent axes of a node's status, and the samples from which its conditions follow.

`registry_core.rules` decides which transitions are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import NamedTuple, Optional

from registry_core.models import limits

__all__ = ["Admission", "Condition", "Conditions", "Cordon", "Liveness", "NodeHealth", "Sampled", "Scheduling"]


class _Word(str, Enum):
    """A closed set of words; each equals its text."""

    def __str__(self) -> str:
        return str(self.value)


class Admission(_Word):
    """Whether the node may take part. Set by policy and operators."""

    PENDING = "pending"
    PROBATION = "probation"
    APPROVED = "approved"
    SUSPENDED = "suspended"
    BANNED = "banned"


class Liveness(_Word):
    """Whether the node is present. Set by heartbeats and the registry's monotonic clock."""

    LIVE = "live"
    SUSPECT = "suspect"
    DOWN = "down"
    LEFT = "left"


class Scheduling(_Word):
    """Whether the node may get new work. Set by operators."""

    ELIGIBLE = "eligible"
    CORDONED = "cordoned"


class Condition(_Word):
    """The state of one gauge: beyond its threshold it is `critical`; a gauge without a report is `unknown`."""

    OK = "ok"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Conditions:
    """One condition for each gauge of a sample."""

    load: Condition = Condition.UNKNOWN
    memory: Condition = Condition.UNKNOWN
    disk: Condition = Condition.UNKNOWN

    def __post_init__(self) -> None:
        for gauge in ("load", "memory", "disk"):
            object.__setattr__(self, gauge, limits.choice(gauge, getattr(self, gauge), Condition))

    @property
    def any_critical(self) -> bool:
        """True when at least one gauge is critical."""
        return Condition.CRITICAL in (self.load, self.memory, self.disk)


@dataclass(frozen=True)
class NodeHealth:
    """The newest sample and its conditions. `None` is a gauge that was not reported.

    `load_average` is the 1-minute load of the whole host, `memory_usage` and `disk_usage` are percentages
    (0 to 100), `last_heartbeat` is the UTC time at which the registry received the last heartbeat.
    """

    load_average: Optional[float] = None
    memory_usage: Optional[float] = None
    disk_usage: Optional[float] = None
    last_heartbeat: Optional[datetime] = None
    conditions: Conditions = Conditions()

    def __post_init__(self) -> None:
        gauges = (("load_average", limits.MAX_LOAD_AVERAGE), ("memory_usage", 100), ("disk_usage", 100))
        for gauge, most in gauges:
            object.__setattr__(self, gauge, limits.optional_number(gauge, getattr(self, gauge), 0, most))
        limits.optional_time("last_heartbeat", self.last_heartbeat)
        limits.instance("conditions", self.conditions, Conditions)

    @property
    def is_healthy(self) -> bool:
        """No critical condition."""
        return not self.conditions.any_critical


class Sampled(NamedTuple):
    """The state of a node that may be lost in a crash: its newest sample, and whether it was `down`."""

    node_id: str
    health: NodeHealth
    is_down: bool = False


@dataclass(frozen=True)
class Cordon:
    """Why a node gets no new work, who decided it, and until when (UTC; None: until an operator lifts it)."""

    reason: str = ""
    actor: str = ""
    until: Optional[datetime] = None

    def __post_init__(self) -> None:
        limits.text("reason", self.reason, "reason")
        limits.text("actor", self.actor, "actor")
        limits.optional_time("until", self.until)
