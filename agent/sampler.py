"""One sample of how the machine fares: load, memory, disk, CPU. Each gauge may fail alone; a failed one is None.

Memory and disk are judged within the same limits that the probes report. What the node offers is the probe's; this is
read every few seconds and must cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from agent.probe.cgroups import Cgroups
from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.main_memory import main_memory
from agent.probe.source import FileSystemSize, Source, SourceError

__all__ = ["DISK_DEADLINE_SECONDS", "Sample", "Sampler"]

DISK_DEADLINE_SECONDS = 1.0  # a dead network mount never answers, and the next sample is due soon


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

    def __str__(self) -> str:
        """`load 0.31, memory 12 %, disk 24 %, cpu 3 %`; a gauge that could not be read is `?`."""
        load = "?" if self.load_average is None else f"{self.load_average:.2f}"
        percents = {"memory": self.memory_usage, "disk": self.disk_usage, "cpu": self.cpu_usage}
        if self.cpu_usage is None:  # as in every first sample
            del percents["cpu"]
        known = (f"{name} {'?' if value is None else f'{value:.0f} %'}" for name, value in percents.items())
        return ", ".join([f"load {load}", *known])


class Sampler:
    """Reads from the probe's source, so that the limits of a container hold here too.

    Keeps the calls that are still out: a dead mount costs one thread, not one a sample.
    """

    def __init__(self, source: Source, work_dir: str, deadlines: Optional[Deadlines] = None) -> None:
        self._source = source
        self._work_dir = work_dir
        self._deadlines = deadlines or Deadlines()
        self._own_group: Optional[str] = None  # the text of /proc/self/cgroup that `_groups` was made from
        self._groups: Optional[Cgroups] = None
        self._busy_and_total: Optional[tuple[float, float]] = None

    def take(self) -> Sample:
        """The gauges now. Not to be called from two threads at once."""
        failures: list[str] = []
        return Sample(
            load_average=_gauge("load", self._source.load_average, failures),
            memory_usage=_gauge("memory", self.memory_percent, failures),
            disk_usage=_gauge("disk", self.disk_percent, failures),
            cpu_usage=_gauge("cpu", self._cpu, failures),
            failures=tuple(failures),
        )

    def memory_percent(self) -> Optional[float]:
        """Percent of the memory in use, of the tightest limit where there is one; None where nothing tells.

        Huge pages that were set aside and the memory of GPUs count neither as memory nor as used. Page cache that
        gives way is not use.
        """
        memory = main_memory(self._source)
        if memory is None:
            return None
        percents = [100 * (1 - memory.available / memory.ordinary)]
        groups = self._present_groups()
        limit = groups.memory()
        if limit is not None and limit.limit_bytes < memory.ordinary:
            used = groups.memory_used_bytes(limit)
            if used is not None and limit.limit_bytes > 0:
                percents.append(100 * used / limit.limit_bytes)
        return round(min(100.0, max(0.0, *percents)), 2)  # the host can be fuller than the container's own share

    def _present_groups(self) -> Cgroups:
        """The mounts are read again only when this process was moved to another group."""
        own_group = self._source.read_text("/proc/self/cgroup")
        if self._groups is None or own_group != self._own_group:
            self._groups, self._own_group = Cgroups(self._source), own_group
        return self._groups

    def disk_percent(self) -> Optional[float]:
        """As df counts: used of what is used or available, blocks kept back for root not counted; None without any.

        Raises MissedDeadline, OSError, SourceError.
        """

        def measure() -> FileSystemSize:
            return self._source.disk_usage(self._source.nearest_existing(self._work_dir))

        size: FileSystemSize = self._deadlines.call(f"disk_usage {self._work_dir}", DISK_DEADLINE_SECONDS, measure)
        used, available = max(0, size.used_bytes), max(0, size.available_bytes)
        return round(100 * used / (used + available), 2) if used + available > 0 else None

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
