"""Memory that work could really use: the smaller of the machine's and the tightest limit, huge pages taken off."""

from __future__ import annotations

from typing import Optional

from agent.probe.cgroups import Cgroups, MemoryLimit
from agent.probe.options import ProbeOptions
from agent.probe.parsers.meminfo import arc_stats, meminfo
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source, SourceError

__all__ = ["MemoryProbe", "available_bytes", "memory_values", "ordinary_bytes"]

_MEMINFO = "/proc/meminfo"
_ARC = "/proc/spl/kstat/zfs/arcstats"
_NODES = "/sys/devices/system/node"


class MemoryProbe:
    """Limits and huge pages change while a machine runs; sampling of use is the agent's own, more frequent."""

    name = "memory"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        values, told_by = memory_values(source)
        total = values.get("MemTotal", 0)
        if total <= 0:
            return [], [Failure(self.name, f"{told_by} does not say how much memory there is")]
        groups = Cgroups(source)
        limit = groups.memory()
        pages = values.get("HugePages_Total", 0) * values.get("Hugepagesize", 0)
        readings = [
            _offered(values, limit, told_by)._replace(note=groups.own_note),
            _available(source, groups, limit, values, told_by),
            Reading("memory_hugepages_gb", _gb(pages), "GB", told_by),
            _swap(source),
        ]
        return [*readings, *_numa(source, total)], []


def memory_values(source: Source) -> tuple[dict[str, int], str]:
    """Name → bytes, as /proc/meminfo names them, and who told it."""
    text = source.read_text(_MEMINFO)
    if text is not None:
        return meminfo(text), _MEMINFO
    memory = source.virtual_memory()  # no /proc: macOS, Windows
    return {"MemTotal": memory.get("total", 0), "MemAvailable": memory.get("available", 0)}, "psutil.virtual_memory"


def _swap(source: Source) -> Reading:
    """The host's swap; null where it cannot be told, which takes nothing from the memory."""
    try:
        total = source.swap_memory().get("total")
    except (OSError, SourceError):
        total = None
    return Reading("swap_gb", None if total is None else _gb(total), "GB", "psutil.swap_memory")


def _gb(size_bytes: int) -> float:
    return round(size_bytes / 1e9, 3)


def _offered(values: dict[str, int], limit: Optional[MemoryLimit], told_by: str) -> Reading:
    total, ordinary = values["MemTotal"], ordinary_bytes(values)
    if limit is not None and limit.limit_bytes <= ordinary:  # equal where LXC shows the limit as the total
        return Reading(
            "memory_gb",
            _gb(limit.limit_bytes),
            "GB",
            f"{told_by}, {limit.path}",
            limit.path,
            host=_gb(total),
            container=_gb(limit.limit_bytes),
        )
    limited_by = "huge pages set aside" if ordinary < total else None
    return Reading("memory_gb", _gb(ordinary), "GB", told_by, limited_by, host=_gb(total))


def available_bytes(source: Source, values: dict[str, int]) -> tuple[int, int]:
    """What could be taken now without swapping, and how much of it is ZFS cache that MemAvailable leaves out.

    The formula is `MemAvailable + max(0, size − c_min)` with the cache's present `size`, not its target `c`. In a
    container the file shows the host's cache against the container's memory, so it is skipped there.
    """
    available = values.get("MemAvailable")
    if available is None:  # before Linux 3.14, or psutil's platforms
        available = values.get("MemFree", 0) + values.get("Buffers", 0) + values.get("Cached", 0)
    from agent.probe.virtualization import container_name

    cache = 0
    if not container_name(source):
        stats = arc_stats(source.read_text(_ARC))
        cache = max(0, stats.get("size", 0) - stats.get("c_min", 0))
    return min(available + cache, ordinary_bytes(values)), cache


def ordinary_bytes(values: dict[str, int]) -> int:
    """The memory less its huge pages, which are set aside for programs that ask for them by name."""
    total, pages = values.get("MemTotal", 0), values.get("HugePages_Total", 0) * values.get("Hugepagesize", 0)
    return total - pages if 0 <= pages < total else total


def _available(
    source: Source, groups: Cgroups, limit: Optional[MemoryLimit], values: dict[str, int], told_by: str
) -> Reading:
    host, cache = available_bytes(source, values)
    if cache:
        told_by = f"{told_by}, {_ARC}"
    note = f"{_gb(cache):g} GB of it is ZFS cache that gives way" if cache else ""
    if limit is None:
        return Reading("memory_available_gb", _gb(host), "GB", told_by, note=note)
    used = groups.memory_used_bytes(limit) or 0  # where it is not told, no more than the limit can be had
    left = max(0, limit.limit_bytes - used)
    if left >= host:
        return Reading("memory_available_gb", _gb(host), "GB", told_by, note=note)
    return Reading("memory_available_gb", _gb(left), "GB", f"{limit.folder}, {told_by}", limit.path, host=_gb(host))


def _numa(source: Source, total: int) -> list[Reading]:
    """Sum of the NUMA nodes, told apart when it disagrees: some hypervisors describe one node of several."""
    nodes = [name for name in source.list_dir(_NODES) if name.startswith("node") and name[4:].isdigit()]
    sizes = [meminfo(source.read_text(f"{_NODES}/{name}/meminfo")).get("MemTotal", 0) for name in nodes]
    if not nodes or not any(sizes):
        return []
    note = ""
    if abs(sum(sizes) - total) > total * 0.02:
        note = f"the NUMA nodes add up to {_gb(sum(sizes)):g} GB, not {_gb(total):g} GB: trust the total"
    return [
        Reading("numa_nodes", len(nodes), "nodes", _NODES),
        Reading("numa_memory_gb", _gb(sum(sizes)), "GB", f"{_NODES}/node*/meminfo", note=note),
    ]
