"""The memory that is the machine's own and that ordinary work can get: huge pages and GPUs' memory taken off.

Both the offer and the gauge of use are counted of it. Not here: the limits of control groups (`cgroups.py`).
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from agent.probe.parsers.meminfo import arc_stats, meminfo
from agent.probe.source import Source, SourceError
from agent.probe.virtualization import container_name

__all__ = ["ARC", "NODES", "MainMemory", "main_memory", "numa_nodes"]

NODES = "/sys/devices/system/node"
ARC = "/proc/spl/kstat/zfs/arcstats"
_MEMINFO = "/proc/meminfo"
_HUGE_PAGES = "/sys/kernel/mm/hugepages"
_NVIDIA_GPUS = "/proc/driver/nvidia/gpus"


class MainMemory(NamedTuple):
    """Bytes. `total` is all that the kernel manages, `gpu_nodes` those NUMA nodes of it that are memory of GPUs."""

    total: int
    huge_pages: int
    gpu_memory: int
    gpu_nodes: tuple[int, ...]
    available: int
    zfs_cache: int
    source: str

    @property
    def ordinary(self) -> int:
        """What programs get that do not ask for huge pages or for a GPU's memory by name."""
        left = self.total - self.huge_pages - self.gpu_memory
        return left if left > 0 else self.total


def main_memory(source: Source) -> Optional[MainMemory]:
    """The memory of this machine; None where nothing tells how much there is.

    What is available could be taken now without swapping: MemAvailable, less what is free of the GPUs' memory, with
    the ZFS cache that gives way.
    """
    text = source.read_text(_MEMINFO)
    if text is None:
        return _without_proc(source)
    values = meminfo(text)
    available = values.get("MemAvailable", -1)
    if available < 0:  # before Linux 3.14
        available = values.get("MemFree", 0) + values.get("Buffers", 0) + values.get("Cached", 0)
    gpu_nodes = _gpu_nodes(source)
    of_gpus = [meminfo(source.read_text(f"{NODES}/node{node}/meminfo")) for node in gpu_nodes]
    cache = _zfs_cache(source)
    memory = MainMemory(
        values.get("MemTotal", 0),
        _huge_pages_bytes(source, values),
        sum(node.get("MemTotal", 0) for node in of_gpus),
        gpu_nodes,
        max(0, available - sum(node.get("MemFree", 0) for node in of_gpus)) + cache,
        cache,
        _MEMINFO,
    )
    return memory._replace(available=min(memory.available, memory.ordinary)) if memory.total > 0 else None


def _without_proc(source: Source) -> Optional[MainMemory]:
    """By psutil (macOS, Windows), else by the call that a Linux without /proc still answers."""
    for told_by in ("virtual_memory", "physical_memory"):
        try:
            told = source.virtual_memory() if told_by == "virtual_memory" else source.physical_memory()
        except (OSError, SourceError):
            continue
        total, available = int(told.get("total", 0)), int(told.get("available", 0))
        if total > 0:
            name = "psutil.virtual_memory" if told_by == "virtual_memory" else "sysconf"
            return MainMemory(total, 0, 0, (), available, 0, name)
    return None


def numa_nodes(source: Source) -> list[int]:
    """The numbers of the NUMA nodes, those of GPUs too."""
    names = [name[4:] for name in source.list_dir(NODES) if name.startswith("node")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 6)


def _huge_pages_bytes(source: Source, values: dict[str, int]) -> int:
    """The pools of all sizes. HugePages_Total is the pool of the default size only."""
    if "Hugetlb" in values:  # since Linux 4.16
        return values["Hugetlb"]
    pools = 0
    for name in source.list_dir(_HUGE_PAGES):  # hugepages-2048kB
        size_kib = name.removeprefix("hugepages-").removesuffix("kB")
        count = source.read_int(f"{_HUGE_PAGES}/{name}/nr_hugepages")
        if size_kib.isascii() and size_kib.isdigit() and len(size_kib) < 12 and count is not None and count > 0:
            pools += count * int(size_kib) * 1024
    return pools or values.get("HugePages_Total", 0) * values.get("Hugepagesize", 0)


def _gpu_nodes(source: Source) -> tuple[int, ...]:
    """NVIDIA's driver puts the memory of GPUs on NVLink (POWER9, Grace Hopper) into NUMA nodes without CPUs."""
    found = set()
    for gpu in source.list_dir(_NVIDIA_GPUS):
        for line in (source.read_text(f"{_NVIDIA_GPUS}/{gpu}/numa_status") or "").splitlines():
            key, _, value = line.partition(":")
            node = value.strip()
            if key.strip() == "Node" and node.isascii() and node.isdigit() and len(node) < 6:
                found.add(int(node))
    return tuple(node for node in sorted(found) if not source.read_line(f"{NODES}/node{node}/cpulist"))


def _zfs_cache(source: Source) -> int:
    """`size − c_min`: the cache's present size, not its target `c`. MemAvailable leaves it out although it gives way.

    In a container the file shows the host's cache against the container's memory, so it is skipped there.
    """
    if container_name(source):
        return 0
    stats = arc_stats(source.read_text(ARC))
    return max(0, stats.get("size", 0) - stats.get("c_min", 0))
