"""Takes samples of the machine's usage: load, memory, disk, CPU. A gauge that fails is None; the others still work.

Memory and disk are measured within the same limits that the probes report. The probes measure what the node offers;
a sample is taken every few seconds and must be cheap.
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
    """`load_average` is the host's over 1 minute; the others are percentages, 0 to 100. None: it could not be read.

    `cpu_usage` is how busy all CPUs of the host were since the previous sample; None in the first one.
    `failures` lists the gauges that could not be read, with the reason.
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
    """Reads from the probe's source, so that the limits of a container apply here too.

    Remembers unfinished calls: a dead mount costs one thread, not one for each sample.
    """

    def __init__(self, source: Source, work_dir: str, deadlines: Optional[Deadlines] = None) -> None:
        self._source = source
        self._work_dir = work_dir
        self._deadlines = deadlines or Deadlines()
        self._own_group: Optional[str] = None  # the text of /proc/self/cgroup that `_groups` was made from
        self._groups: Optional[Cgroups] = None
        self._busy_and_total: Optional[tuple[float, float]] = None

    def take(self) -> Sample:
        """Read all gauges. Must not be called from two threads at once."""
        failures: list[str] = []
        return Sample(
            load_average=_gauge("load", self._source.load_average, failures),
            memory_usage=_gauge("memory", self.memory_percent, failures),
            disk_usage=_gauge("disk", self.disk_percent, failures),
            cpu_usage=_gauge("cpu", self._cpu, failures),
            failures=tuple(failures),
        )

    def memory_percent(self) -> Optional[float]:
        """Percentage of memory in use, relative to the tightest limit if there is one; None if it is unknown.

        Reserved huge pages and the memory of GPUs count neither as memory nor as used. Page cache that can be
        reclaimed does not count as used.
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
        return round(min(100.0, max(0.0, *percents)), 2)  # the host can be fuller than the container

    def _present_groups(self) -> Cgroups:
        """The control groups; the mounts are read again only if this process was moved to another group."""
        own_group = self._source.read_text("/proc/self/cgroup")
        if self._groups is None or own_group != self._own_group:
            self._groups, self._own_group = Cgroups(self._source), own_group
        return self._groups

    def disk_percent(self) -> Optional[float]:
        """As df counts: used / (used + available), without blocks reserved for root; None if that sum is 0.

        Raises MissedDeadline, OSError, SourceError.
        """

        def measure() -> FileSystemSize:
            return self._source.disk_usage(self._source.nearest_existing(self._work_dir))

        size: FileSystemSize = self._deadlines.call(f"disk_usage {self._work_dir}", DISK_DEADLINE_SECONDS, measure)
        used, available = max(0, size.used_bytes), max(0, size.available_bytes)
        return round(100 * used / (used + available), 2) if used + available > 0 else None

    def _cpu(self) -> Optional[float]:
        """Computed here, because psutil.cpu_percent(None) keeps a baseline for each thread and first returns 0.0."""
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
