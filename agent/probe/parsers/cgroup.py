"""Parsers of the kernel's files about control groups: the group of a process, the mounts, and the limits."""

from __future__ import annotations

from typing import NamedTuple, Optional

from agent.probe.parsers.mounts import mounts

__all__ = [
    "CgroupMount",
    "cfs_quota",
    "cgroup_mounts",
    "cgroup_paths",
    "cpu_max",
    "reclaimable_bytes",
    "hierarchical_limit",
    "memory_limit",
]

# v1 writes "unlimited" as 2⁶³−1 rounded down to a page of up to 64 KiB
_UNLIMITED_BYTES = (1 << 63) - (1 << 16)


class CgroupMount(NamedTuple):
    """A mounted hierarchy: its controllers (empty for v2), the group at its root, and where it is mounted."""

    version: int
    controllers: frozenset[str]
    root: str
    mount_point: str


def cgroup_paths(text: Optional[str]) -> dict[str, str]:
    """Controller → path from /proc/self/cgroup; the v2 hierarchy has the empty name."""
    paths: dict[str, str] = {}
    for line in (text or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not number.isdigit() or not colon or not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            paths[""] = path
        else:
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def cgroup_mounts(text: Optional[str]) -> list[CgroupMount]:
    """The control-group hierarchies in /proc/self/mountinfo, in its order."""
    found = []
    for mount in mounts(text):
        if mount.fstype == "cgroup2":
            found.append(CgroupMount(2, frozenset(), mount.root, mount.mount_point))
        elif mount.fstype == "cgroup":
            found.append(CgroupMount(1, frozenset(mount.super_options), mount.root, mount.mount_point))
    return found


def cpu_max(text: Optional[str]) -> Optional[float]:
    """CPUs allowed by v2's `cpu.max` (`50000 100000` is 0.5); None for `max` and invalid text."""
    words = (text or "").split()
    if not words or len(words) > 2:
        return None
    return cfs_quota(words[0], words[1] if len(words) == 2 else "100000")


def cfs_quota(quota: Optional[str], period: Optional[str]) -> Optional[float]:
    """CPUs allowed by v1's quota and period in microseconds; None for -1 (no limit) and invalid text."""
    quota, period = (quota or "").strip(), (period or "").strip()
    if not (quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit()):
        return None
    if len(quota) > 18 or len(period) > 18 or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def memory_limit(text: Optional[str]) -> Optional[int]:
    """Bytes allowed by a memory limit of either version; None for no limit and invalid text."""
    word = (text or "").strip()
    if not word.isascii() or not word.isdigit() or len(word) > 20:
        return None
    limit = int(word)
    return limit if limit < _UNLIMITED_BYTES else None


def hierarchical_limit(text: Optional[str]) -> Optional[int]:
    """Bytes that a v1 group and all its ancestors allow, from its memory.stat; None for no limit or no value."""
    return memory_limit(_stat(text, "hierarchical_memory_limit"))


def reclaimable_bytes(text: Optional[str]) -> int:
    """Reclaimable page cache, from memory.stat. v1 prefixes the figure of the whole subtree with `total_`."""
    figures = (_stat(text, "inactive_file"), _stat(text, "total_inactive_file"))
    return max(int(figure) if figure and len(figure) < 20 else 0 for figure in figures)


def _stat(text: Optional[str], name: str) -> Optional[str]:
    for line in (text or "").splitlines():
        key, _, figure = line.partition(" ")
        if key == name and figure.isascii() and figure.isdigit():
            return figure
    return None
