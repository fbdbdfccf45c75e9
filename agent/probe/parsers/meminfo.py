"""/proc/meminfo, a NUMA node's meminfo, and the ZFS cache's kstat: names with numbers."""

from __future__ import annotations

import re
from typing import Optional

__all__ = ["arc_stats", "meminfo"]

# arm64 kernels have printed the number without a space before kB; NUMA files put "Node 0" before the name
_LINE = re.compile(r"^(?:Node +\d+ +)?([A-Za-z_()0-9]+): *(\d{1,18}) *(kB)?\s*$", re.ASCII)
_ARC_LINE = re.compile(r"^(\w+) +\d+ +(\d{1,18})$", re.ASCII)


def meminfo(text: Optional[str]) -> dict[str, int]:
    """Name → bytes, or a plain count for lines without a unit (HugePages_Total)."""
    values = {}
    for line in (text or "").splitlines():
        match = _LINE.match(line)
        if match:
            values[match.group(1)] = int(match.group(2)) * (1024 if match.group(3) else 1)
    return values


def arc_stats(text: Optional[str]) -> dict[str, int]:
    """Name → number of /proc/spl/kstat/zfs/arcstats; `size` and `c_min` are bytes."""
    values = {}
    for line in (text or "").splitlines():
        match = _ARC_LINE.match(line)
        if match:
            values[match.group(1)] = int(match.group(2))
    return values
