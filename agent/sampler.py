"""One sample of how the machine fares: load, memory, disk, CPU. Each gauge may fail alone; a failed one is None.

What the node offers is the probe's; this is read every few seconds and must cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.source import Source, SourceError
from agent.probe.usage import Usage

__all__ = ["Sample", "Sampler"]


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
        self._usage = Usage(source, work_dir, deadlines)
        self._busy_and_total: Optional[tuple[float, float]] = None

    def take(self) -> Sample:
        """The gauges now. Not to be called from two threads at once."""
        failures: list[str] = []
        return Sample(
            load_average=_gauge("load", self._source.load_average, failures),
            memory_usage=_gauge("memory", self._usage.memory_percent, failures),
            disk_usage=_gauge("disk", self._usage.disk_percent, failures),
            cpu_usage=_gauge("cpu", self._cpu, failures),
            failures=tuple(failures),
        )

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
