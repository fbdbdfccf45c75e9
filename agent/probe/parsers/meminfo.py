"""Parsers of /proc/meminfo, a NUMA node's meminfo, /proc/swaps, and the ZFS cache's kstat."""

from __future__ import annotations

import re
from typing import Optional

__all__ = ["arc_stats", "meminfo", "swap_devices"]

# Some arm64 kernels print no space before kB; NUMA files have "Node 0" before the name
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


def swap_devices(text: Optional[str]) -> list[tuple[str, int]]:
    """Device or file and its bytes, from /proc/swaps (`Filename Type Size Used Priority`, in KiB)."""
    found = []
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) >= 5 and words[2].isascii() and words[2].isdigit() and len(words[2]) < 16:
            found.append((words[0], int(words[2]) * 1024))
    return found
