"""How full this machine is right now, as the agent samples it: within the same limits that the probes report.

Not here: when to sample, and what becomes of a sample.
"""

from __future__ import annotations

from typing import Optional

from agent.probe.cgroups import Cgroups
from agent.probe.deadline import Deadlines
from agent.probe.probes.memory import available_bytes, memory_values, ordinary_bytes
from agent.probe.source import FileSystemSize, Source

__all__ = ["Usage"]

_WAIT_SECONDS = 3.0


class Usage:
    """Samples one machine. Keeps the calls that are still out: a dead mount costs one thread, not one a sample."""

    def __init__(self, source: Source, work_dir: str, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._source = source
        self._work_dir = work_dir
        self._wait_seconds = wait_seconds
        self._deadlines = Deadlines()

    def memory_percent(self) -> Optional[float]:
        """Percent of the memory in use, of the tightest limit where there is one; None where nothing tells.

        Huge pages that were set aside count neither as memory nor as used. Page cache that gives way is not use.
        """
        values, _ = memory_values(self._source)
        ordinary = ordinary_bytes(values)
        if ordinary <= 0:
            return None
        available, _ = available_bytes(self._source, values)
        percents = [100 * (1 - available / ordinary)]
        groups = Cgroups(self._source)
        limit = groups.memory()
        if limit is not None and limit.limit_bytes < ordinary:
            used = groups.memory_used_bytes(limit)
            if used is not None and limit.limit_bytes > 0:
                percents.append(100 * used / limit.limit_bytes)
        return round(min(100.0, max(0.0, *percents)), 1)  # the host can be fuller than the container's own share

    def disk_percent(self) -> float:
        """Percent of used + available of the work directory's file system. Raises MissedDeadline, OSError."""

        def measure() -> FileSystemSize:
            return self._source.statvfs(self._source.nearest_existing(self._work_dir))

        size: FileSystemSize = self._deadlines.call("work_dir", self._wait_seconds, measure)
        used = max(0, size.total_bytes - size.free_bytes)
        whole = used + size.available_bytes
        return round(100 * used / whole, 1) if whole > 0 else 100.0
