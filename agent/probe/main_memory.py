"""The machine's memory that ordinary work can use: without huge pages and the memory of GPUs.

Both the offer and the usage gauge are based on it. `cgroups.py` has the limits of control groups.
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
    """Bytes. `total` is all that the kernel manages; `gpu_nodes` are its NUMA nodes that are memory of GPUs."""

    total: int
    huge_pages: int
    gpu_memory: int
    gpu_nodes: tuple[int, ...]
    available: int
    zfs_cache: int
    source: str

    @property
    def ordinary(self) -> int:
        """What programs can use that do not request huge pages or a GPU's memory explicitly."""
        left = self.total - self.huge_pages - self.gpu_memory
        return left if left > 0 else self.total


def main_memory(source: Source) -> Optional[MainMemory]:
    """The memory of this machine; None if its size is unknown.

    `available` could be allocated now without swapping: MemAvailable, minus the free memory of GPUs, plus the ZFS
    cache that can be reclaimed.
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
    """By psutil (macOS, Windows), else by a call that works on a Linux without /proc."""
    for call in ("virtual_memory", "physical_memory"):
        try:
            sizes = source.virtual_memory() if call == "virtual_memory" else source.physical_memory()
        except (OSError, SourceError):
            continue
        total, available = int(sizes.get("total", 0)), int(sizes.get("available", 0))
        if total > 0:
            name = "psutil.virtual_memory" if call == "virtual_memory" else "sysconf"
            return MainMemory(total, 0, 0, (), available, 0, name)
    return None


def numa_nodes(source: Source) -> list[int]:
    """The numbers of the NUMA nodes, including those of GPUs."""
    names = [name[4:] for name in source.list_dir(NODES) if name.startswith("node")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 6)


def _huge_pages_bytes(source: Source, values: dict[str, int]) -> int:
    """The pools of all sizes. HugePages_Total is only the pool of the default size."""
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
    """`size − c_min`: the current size, not the target `c`. MemAvailable excludes it although it can be reclaimed.

    In a container it is ignored, because the file shows the host's cache and not the container's.
    """
    if container_name(source):
        return 0
    stats = arc_stats(source.read_text(ARC))
    return max(0, stats.get("size", 0) - stats.get("c_min", 0))
