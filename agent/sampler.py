"""One sample of how the machine fares: load, memory, disk, CPU. Each gauge may fail alone; a failed one is None.

What the node offers is the probe's; this is read every few seconds and must cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from agent.probe.cgroups import Cgroups
from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.source import Source, SourceError

__all__ = ["Sample", "Sampler"]

DISK_DEADLINE_SECONDS = 1.0  # statvfs on a dead network mount never returns


@dataclass(frozen=True)
class Sample:
    """`load_average` is the host's over 1 minute; the others are percentages, 0 to 100. None: could not be read.

    `cpu_usage` is the share of all CPUs of the host that was busy since the sample before; None in the first.
    `failures` says which gauge could not be read and why.
    """

    load_average: Optional[float] = None
    memory_usage: Optional[float] = None
    disk_usage: Optional[float] = None
    cpu_usage: Optional[float] = None
    failures: tuple[str, ...] = ()


class Sampler:
    """Reads from the probe's source, so that the limits of a container hold here too."""

    def __init__(self, source: Source, work_dir: str, deadlines: Optional[Deadlines] = None) -> None:
        self._source = source
        self._work_dir = work_dir
        self._deadlines = deadlines or Deadlines()
        self._busy_and_total: Optional[tuple[float, float]] = None

    def take(self) -> Sample:
        """The gauges now. Not to be called from two threads at once."""
        failures: list[str] = []
        return Sample(
            load_average=_gauge("load", self._source.load_average, failures),
            memory_usage=_gauge("memory", self._memory, failures),
            disk_usage=_gauge("disk", self._disk, failures),
            cpu_usage=_gauge("cpu", self._cpu, failures),
            failures=tuple(failures),
        )

    def _memory(self) -> Optional[float]:
        """Of the tightest limit when it binds, else of the host: what could not be had without swapping."""
        host = self._source.virtual_memory()
        groups = Cgroups(self._source)
        limit = groups.memory()
        if limit is not None and limit.limit_bytes < host["total"]:
            used = groups.memory_used_bytes(limit)
            if used is not None:
                return _percent(used, limit.limit_bytes)
        return _percent(host["total"] - host["available"], host["total"])

    def _disk(self) -> Optional[float]:
        """As df counts: used of what is used or available, blocks kept back for root not counted."""
        key = f"statvfs {self._work_dir}"
        size = self._deadlines.call(key, DISK_DEADLINE_SECONDS, lambda: self._source.statvfs(self._existing()))
        used = size.total_bytes - size.free_bytes
        return _percent(used, used + size.available_bytes)

    def _existing(self) -> str:
        return self._source.nearest_existing(self._work_dir)

    def _cpu(self) -> Optional[float]:
        """From our own differences: psutil.cpu_percent(None) keeps a baseline for each thread and says 0.0 first."""
        times = self._source.cpu_times()
        # the kernel counts guest time in user time as well
        total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        busy = total - times.get("idle", 0.0) - times.get("iowait", 0.0)
        before, self._busy_and_total = self._busy_and_total, (busy, total)
        if before is None or total <= before[1]:
            return None
        return _percent(busy - before[0], total - before[1])


def _percent(part: float, whole: float) -> Optional[float]:
    if whole <= 0:
        return None
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 2)


def _gauge(name: str, read: Callable[[], Optional[float]], failures: list[str]) -> Optional[float]:
    try:
        return read()
    except (SourceError, MissedDeadline, OSError, ValueError, KeyError) as error:
        failures.append(f"{name}: {error}")
        return None
