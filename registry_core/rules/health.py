"""When a gauge is critical: thresholds with a lower bound for clearing, so that a node at the edge does not flap.

Here: the thresholds and the decision. Not here: where samples are kept, what follows for queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.status import Condition, Conditions

__all__ = ["CLEARS_BELOW", "HealthThresholds", "condition", "conditions", "load_per_cpu"]

CLEARS_BELOW = 0.9
"""A critical gauge clears below this share of its threshold. Lower: fewer flips, longer out of service."""

_OK, _CRITICAL, _UNKNOWN = Condition.OK, Condition.CRITICAL, Condition.UNKNOWN


@dataclass(frozen=True)
class HealthThresholds:
    """At which value a gauge becomes critical.

    `load_per_cpu` is the 1-minute load average divided by the logical CPUs of the whole host; `memory_usage` and
    `disk_usage` are percentages. Raise one to tolerate more before a node gets no new work.
    """

    load_per_cpu: float = 2.0
    memory_usage: float = 90.0
    disk_usage: float = 90.0

    def __post_init__(self) -> None:
        for name, most in (("load_per_cpu", limits.MAX_LOAD_AVERAGE), ("memory_usage", 100), ("disk_usage", 100)):
            checked = limits.number(name, getattr(self, name), 0, most)
            if checked == 0:  # everything would be critical, and never clear
                raise ValidationError(name, checked, "must be above 0")
            object.__setattr__(self, name, checked)


def load_per_cpu(load_average: Optional[float], host_cpus: int, cpu_cores: int) -> Optional[float]:
    """The load for each CPU of the host (0: not known); `cpu_cores` stands in; None when neither is known."""
    cpus = host_cpus or cpu_cores
    return None if load_average is None or not cpus else load_average / cpus


def condition(value: Optional[float], threshold: float, before: Condition) -> Condition:
    """Critical at `threshold` and above; once critical, until the value is below 0.9 × the threshold."""
    if value is None:
        return _UNKNOWN
    if value >= threshold or (before is _CRITICAL and value >= CLEARS_BELOW * threshold):
        return _CRITICAL
    return _OK


def conditions(
    gauges: tuple[Optional[float], Optional[float], Optional[float]],
    thresholds: HealthThresholds,
    before: Conditions,
) -> Conditions:
    """What follows from (load per CPU, memory %, disk %), given what held before."""
    load, memory, disk = gauges
    return Conditions(
        condition(load, thresholds.load_per_cpu, before.load),
        condition(memory, thresholds.memory_usage, before.memory),
        condition(disk, thresholds.disk_usage, before.disk),
    )
