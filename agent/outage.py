"""What is kept of an outage: when it began, how many samples it holds, and each gauge's smallest, mean and largest.

Constant in size however long it lasts. Delivering it is the remote registry's part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Optional

from agent.sampler import Sample
from registry_core.models.times import time_to_text

__all__ = ["Gap", "Range"]

_GAUGES = ("load_average", "memory_usage", "disk_usage")


@dataclass(frozen=True)
class Range:
    """What was seen of one gauge. `count` is of the samples that could read it."""

    smallest: float
    largest: float
    total: float
    count: int

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return self.total / self.count

    def to_plain(self) -> dict[str, float]:
        """{"min", "mean", "max"}"""
        return {"min": self.smallest, "mean": round(self.mean, 3), "max": self.largest}


@dataclass(frozen=True)
class Gap:
    """`begin` and `end` are UTC, of the first and the newest undelivered sample."""

    begin: datetime
    end: datetime
    samples: int
    reason: str
    ranges: Mapping[str, Range]

    @classmethod
    def begun(cls, sample: Sample, moment: datetime, reason: str) -> Gap:
        """The gap that starts with `sample`."""
        return cls(moment, moment, 0, reason, {}).with_sample(sample, moment)

    def with_sample(self, sample: Sample, moment: datetime) -> Gap:
        """One sample more."""
        ranges = {name: _wider(self.ranges.get(name), getattr(sample, name)) for name in _GAUGES}
        known = {name: found for name, found in ranges.items() if found is not None}
        return replace(self, end=moment, samples=self.samples + 1, ranges=known)

    def to_plain(self) -> dict[str, Any]:
        """The JSON map."""
        return {
            "from": time_to_text(self.begin),
            "to": time_to_text(self.end),
            "samples": self.samples,
            "reason": self.reason,
            "gauges": {name: found.to_plain() for name, found in self.ranges.items()},
        }

    def __str__(self) -> str:
        return f"{self.samples} undelivered samples since {time_to_text(self.begin)}"


def _wider(found: Optional[Range], value: Optional[float]) -> Optional[Range]:
    if value is None:
        return found
    if found is None:
        return Range(value, value, value, 1)
    return Range(min(found.smallest, value), max(found.largest, value), found.total + value, found.count + 1)
