"""The summary of an outage: its start and end, the number of samples, and the minimum, mean and maximum of each gauge.

Its size does not depend on the length of the outage. The remote registry delivers it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from agent.sampler import Sample
from registry_core.errors import StoreError, printable
from registry_core.files.atomic import replace_file
from registry_core.files.opening import read_file
from registry_core.models.times import time_from_text, time_to_text

__all__ = ["Gap", "Range", "forget_gap", "keep_gap", "kept_gap"]

LONGEST_REASON = 256
LARGEST_FILE_BYTES = 16 * 1024

_GAUGES = ("load_average", "memory_usage", "disk_usage")


@dataclass(frozen=True)
class Range:
    """The values of one gauge. `count` is the number of samples in which it could be read."""

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
        return {"min": self.smallest, "mean": min(self.largest, max(self.smallest, self.mean)), "max": self.largest}


@dataclass(frozen=True)
class Gap:
    """`begin` and `end` are the times (UTC) of the first and the newest undelivered sample."""

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
        """The gap with one more sample."""
        ranges = {name: _wider(self.ranges.get(name), getattr(sample, name)) for name in _GAUGES}
        known = {name: found for name, found in ranges.items() if found is not None}
        return replace(self, end=moment, samples=self.samples + 1, ranges=known)

    def to_plain(self) -> dict[str, Any]:
        """The JSON map."""
        return {
            "from": time_to_text(self.begin),
            "to": time_to_text(self.end),
            "samples": self.samples,
            "reason": printable(self.reason)[:LONGEST_REASON],
            "gauges": {name: found.to_plain() for name, found in self.ranges.items()},
        }

    def __str__(self) -> str:
        return f"{self.samples} undelivered sample{'' if self.samples == 1 else 's'} since {time_to_text(self.begin)}"


def keep_gap(path: Path, gap: Gap) -> None:
    """Store the gap, so that it survives a restart. A full disk is ignored here; the status file reports it."""
    counts = {name: found.count for name, found in gap.ranges.items()}
    with suppress(StoreError):
        replace_file(path, json.dumps({**gap.to_plain(), "counts": counts}).encode() + b"\n", durable=False)


def kept_gap(path: Path) -> Optional[Gap]:
    """The gap that an earlier run could not deliver; None if there is none or it cannot be read."""
    try:
        plain = json.loads(read_file(path, LARGEST_FILE_BYTES))
        begin, end = time_from_text("from", plain["from"]), time_from_text("to", plain["to"])
        ranges = {name: _range(plain, name) for name in _GAUGES if name in plain["gauges"]}
        samples, reason = int(plain["samples"]), str(plain["reason"])
    except (OSError, StoreError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    return Gap(begin, end, samples, reason, ranges) if begin is not None and end is not None else None


def forget_gap(path: Path) -> None:
    """Delete the stored gap, after its delivery."""
    with suppress(OSError):
        path.unlink()


def _range(plain: Any, name: str) -> Range:
    gauge, count = plain["gauges"][name], int(plain["counts"][name])
    return Range(float(gauge["min"]), float(gauge["max"]), float(gauge["mean"]) * count, count)


def _wider(found: Optional[Range], value: Optional[float]) -> Optional[Range]:
    if value is None:
        return found
    if found is None:
        return Range(value, value, value, 1)
    return Range(min(found.smallest, value), max(found.largest, value), found.total + value, found.count + 1)
