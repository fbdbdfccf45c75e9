"""When a gauge is critical: thresholds with a lower value for clearing, so that a node near one does not flap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.status import Condition, Conditions

__all__ = [
    "ALL_CONDITIONS",
    "ALL_UNKNOWN",
    "CLEARS_BELOW",
    "CRITICAL",
    "OK",
    "UNKNOWN",
    "HealthRule",
    "HealthThresholds",
    "condition",
    "load_per_cpu",
]

CLEARS_BELOW = 0.9
"""A critical gauge clears below this share of its threshold. Lower: fewer changes, but longer without work."""

OK, CRITICAL, UNKNOWN = range(3)


@dataclass(frozen=True)
class HealthThresholds:
    """The values from which a gauge is critical, so that its node gets no new work.

    `load_per_cpu` is the 1-minute load average divided by the logical CPUs of the whole host; `memory_usage` and
    `disk_usage` are percentages.
    """

    load_per_cpu: float = 2.0
    memory_usage: float = 90.0
    disk_usage: float = 90.0

    def __post_init__(self) -> None:
        for name, most in (("load_per_cpu", limits.MAX_LOAD_AVERAGE), ("memory_usage", 100), ("disk_usage", 100)):
            checked = limits.number(name, getattr(self, name), 0, most)
            if checked == 0:  # every node would be critical forever
                raise ValidationError(name, checked, "must be above 0")
            object.__setattr__(self, name, checked)


def load_per_cpu(load_average: Optional[float], cpus: float) -> Optional[float]:
    """The load per CPU of the host; None if the load or the CPUs (`host_cpus`, or else `cpu_cores`) are unknown."""
    return None if load_average is None or not cpus else load_average / cpus


def condition(value: Optional[float], critical_from: float, clears_below: float, before: int) -> int:
    """OK, CRITICAL or UNKNOWN: critical from `critical_from` on and then until it falls below `clears_below`."""
    if value is None:
        return UNKNOWN
    if value >= critical_from or (before == CRITICAL and value >= clears_below):
        return CRITICAL
    return OK


class HealthRule:
    """Applies the thresholds. Conditions are represented by indexes of `ALL_CONDITIONS`."""

    def __init__(self, thresholds: HealthThresholds) -> None:
        self._load = thresholds.load_per_cpu, CLEARS_BELOW * thresholds.load_per_cpu
        self._memory = thresholds.memory_usage, CLEARS_BELOW * thresholds.memory_usage
        self._disk = thresholds.disk_usage, CLEARS_BELOW * thresholds.disk_usage

    def conditions(
        self, load: Optional[float], memory_usage: Optional[float], disk_usage: Optional[float], before: int
    ) -> int:
        """The conditions for this load per CPU, memory % and disk %, given the conditions before."""
        load_before, memory_before, disk_before = _GAUGES[before]
        return (
            condition(load, *self._load, load_before) * 9
            + condition(memory_usage, *self._memory, memory_before) * 3
            + condition(disk_usage, *self._disk, disk_before)
        )


_GAUGES = tuple(product(range(3), repeat=3))
_WORDS = (Condition.OK, Condition.CRITICAL, Condition.UNKNOWN)

ALL_CONDITIONS = tuple(Conditions(_WORDS[load], _WORDS[memory], _WORDS[disk]) for load, memory, disk in _GAUGES)
ALL_UNKNOWN = len(ALL_CONDITIONS) - 1
