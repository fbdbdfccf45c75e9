"""The memory that work can actually use: the minimum of the machine's memory and the tightest limit."""

from __future__ import annotations

from typing import Optional

from agent.probe.cgroups import Cgroups, MemoryLimit
from agent.probe.main_memory import ARC, NODES, MainMemory, main_memory, numa_nodes
from agent.probe.options import ProbeOptions
from agent.probe.parsers.meminfo import meminfo, swap_devices
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source, SourceError
from agent.probe.visibility import NO_PROC, is_proc_hidden

__all__ = ["MemoryProbe"]

_SWAPS = "/proc/swaps"


class MemoryProbe:
    """Detects changed limits and huge pages; the agent samples the usage more often."""

    name = "memory"
    cadence_seconds = 300.0
    deadline_seconds = 5.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        memory = main_memory(source)
        if memory is None:
            return [], [
                Failure(self.name, "neither /proc/meminfo nor the operating system reports the amount of memory")
            ]
        groups = Cgroups(source)
        limit = groups.memory()
        readings = [
            _offered(memory, limit)._replace(note=_sentences(_gpu_note(memory), groups.own_note)),
            _available(groups, limit, memory),
            _huge_pages(memory),
            _swap(source),
        ]
        failures = []
        if is_proc_hidden(source):
            failures.append(Failure(self.name, f"{NO_PROC}: limits of control groups cannot be read", "memory_gb"))
        return [*readings, *_numa(source, memory)], failures


def _gb(size_bytes: float) -> float:
    return round(size_bytes / 1e9, 3)


def _sentences(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _offered(memory: MainMemory, limit: Optional[MemoryLimit]) -> Reading:
    if limit is not None and limit.limit_bytes <= memory.ordinary:  # equal if LXC shows the limit as the total
        return Reading(
            "memory_gb",
            _gb(limit.limit_bytes),
            "GB",
            f"{memory.source}, {limit.path}",
            limit.path,
            host=_gb(memory.total),
            container=_gb(limit.limit_bytes),
        )
    causes = []
    if memory.ordinary < memory.total:
        causes += ["huge pages set aside"] if memory.huge_pages else []
        causes += ["memory of GPUs"] if memory.gpu_memory else []
    limited_by = " and ".join(causes) or None
    return Reading("memory_gb", _gb(memory.ordinary), "GB", memory.source, limited_by, host=_gb(memory.total))


def _gpu_note(memory: MainMemory) -> str:
    if not memory.gpu_memory:
        return ""
    nodes = ", ".join(str(node) for node in memory.gpu_nodes)
    return f"{_gb(memory.gpu_memory):g} GB in the NUMA nodes {nodes} is memory of GPUs, and is reported with them"


def _available(groups: Cgroups, limit: Optional[MemoryLimit], memory: MainMemory) -> Reading:
    host, read_from = _gb(memory.available), memory.source
    note = ""
    if memory.zfs_cache:
        read_from = f"{read_from}, {ARC}"
        note = f"{_gb(memory.zfs_cache):g} GB of it is ZFS cache that can be reclaimed"
    if limit is None:
        return Reading("memory_available_gb", host, "GB", read_from, note=note)
    used = groups.memory_used_bytes(limit) or 0  # if unknown, the limit is the maximum
    left = max(0, limit.limit_bytes - used)
    if left >= memory.available:
        return Reading("memory_available_gb", host, "GB", read_from, note=note)
    return Reading("memory_available_gb", _gb(left), "GB", f"{limit.folder}, {read_from}", limit.path, host=host)


def _huge_pages(memory: MainMemory) -> Reading:
    known = memory.source not in ("psutil.virtual_memory", "sysconf")
    return Reading("memory_hugepages_gb", _gb(memory.huge_pages) if known else None, "GB", memory.source)


def _swap(source: Source) -> Reading:
    """Swap on disks. zram swaps into compressed memory, which is already offered as memory.

    Null if it is unknown, which does not affect the memory.
    """
    try:
        total = source.swap_memory().get("total")
    except (OSError, SourceError):
        total = None
    if total is None:
        return Reading("swap_gb", None, "GB", "psutil.swap_memory")
    in_memory = min(total, sum(size for name, size in swap_devices(source.read_text(_SWAPS)) if _is_memory(name)))
    if not in_memory:
        return Reading("swap_gb", _gb(total), "GB", "psutil.swap_memory")
    note = f"{_gb(in_memory):g} GB more is compressed memory (zram), not disk"
    return Reading("swap_gb", _gb(total - in_memory), "GB", f"psutil.swap_memory, {_SWAPS}", note=note)


def _is_memory(device: str) -> bool:
    name = device.rpartition("/")[2]
    return device.startswith("/dev/") and name.rstrip("0123456789") in ("zram", "ram")


def _numa(source: Source, memory: MainMemory) -> list[Reading]:
    """The sum of the NUMA nodes, with a note if it disagrees: some hypervisors describe only one of several nodes."""
    nodes = [node for node in numa_nodes(source) if node not in memory.gpu_nodes]
    sizes = [meminfo(source.read_text(f"{NODES}/node{node}/meminfo")).get("MemTotal", 0) for node in nodes]
    if not nodes or not any(sizes):
        return []
    total, note = memory.total - memory.gpu_memory, ""
    if abs(sum(sizes) - total) > total * 0.02:
        note = f"the NUMA nodes add up to {_gb(sum(sizes)):g} GB, not {_gb(total):g} GB: trust the total"
    return [
        Reading("numa_nodes", len(nodes), "nodes", NODES),
        Reading("numa_memory_gb", _gb(sum(sizes)), "GB", f"{NODES}/node*/meminfo", note=note),
    ]
