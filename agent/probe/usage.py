"""How full this machine is right now, as the agent samples it: within the same limits that the probes report.

Not here: when to sample, and what becomes of a sample.
"""

from __future__ import annotations

from typing import Optional

from agent.probe.cgroups import Cgroups
from agent.probe.deadline import Deadlines
from agent.probe.main_memory import main_memory
from agent.probe.source import FileSystemSize, Source

__all__ = ["DISK_DEADLINE_SECONDS", "Usage"]

DISK_DEADLINE_SECONDS = 1.0  # a dead network mount never answers, and the next sample is due soon


class Usage:
    """Samples one machine. Keeps the calls that are still out: a dead mount costs one thread, not one a sample."""

    def __init__(self, source: Source, work_dir: str, deadlines: Optional[Deadlines] = None) -> None:
        self._source = source
        self._work_dir = work_dir
        self._deadlines = deadlines or Deadlines()

    def memory_percent(self) -> Optional[float]:
        """Percent of the memory in use, of the tightest limit where there is one; None where nothing tells.

        Huge pages that were set aside and the memory of GPUs count neither as memory nor as used. Page cache that
        gives way is not use.
        """
        memory = main_memory(self._source)
        if memory is None:
            return None
        percents = [100 * (1 - memory.available / memory.ordinary)]
        groups = Cgroups(self._source)
        limit = groups.memory()
        if limit is not None and limit.limit_bytes < memory.ordinary:
            used = groups.memory_used_bytes(limit)
            if used is not None and limit.limit_bytes > 0:
                percents.append(100 * used / limit.limit_bytes)
        return round(min(100.0, max(0.0, *percents)), 2)  # the host can be fuller than the container's own share

    def disk_percent(self) -> Optional[float]:
        """As df counts: used of what is used or available, blocks kept back for root not counted; None without any.

        Raises MissedDeadline, OSError, SourceError.
        """

        def measure() -> FileSystemSize:
            return self._source.disk_usage(self._source.nearest_existing(self._work_dir))

        size: FileSystemSize = self._deadlines.call(f"disk_usage {self._work_dir}", DISK_DEADLINE_SECONDS, measure)
        used, available = max(0, size.used_bytes), max(0, size.available_bytes)
        return round(100 * used / (used + available), 2) if used + available > 0 else None
