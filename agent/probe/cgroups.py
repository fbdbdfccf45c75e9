"""The tightest control-group limits of this process: over all ancestors, for v1, v2 or both.

A group with the name of one of our own services is ignored: a limit of the agent is not a limit of the node.
`parsers/cgroup.py` knows the kernel's formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional

from agent.probe.parsers import cgroup as parse
from agent.probe.parsers.cpu import cpu_list
from agent.probe.source import Source

__all__ = ["OWN_SERVICES", "Cgroups", "CpusetLimit", "MemoryLimit", "QuotaLimit"]

OWN_SERVICES = ("duxnet-agent.service", "duxnet-coordinator.service")


class QuotaLimit(NamedTuple):
    """CPU time in units of CPUs, and the file with this limit."""

    cpus: float
    path: str


class MemoryLimit(NamedTuple):
    """Bytes, the file with this limit, and the folder of the limited group."""

    limit_bytes: int
    path: str
    folder: str


class CpusetLimit(NamedTuple):
    """The allowed CPUs, and the file with this limit."""

    cpus: frozenset[int]
    path: str


class Cgroups:
    """Reads the group of this process once; each method then walks from there to the root."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paths = parse.cgroup_paths(source.read_text("/proc/self/cgroup"))
        self._mounts = parse.cgroup_mounts(source.read_text("/proc/self/mountinfo"))

    @property
    def versions(self) -> str:
        """`v1`, `v2`, `v1+v2` for a machine that mounts both, or `none`."""
        return "+".join(f"v{version}" for version in sorted({mount.version for mount in self._mounts})) or "none"

    @property
    def unseen(self) -> str:
        """A sentence if this process is in a group but no control groups are mounted here; else empty."""
        inside = any(path not in ("", "/") for path in self._paths.values())
        return "control groups are not mounted here: limits cannot be read" if inside and not self._mounts else ""

    def quota(self) -> Optional[QuotaLimit]:
        """The smallest CPU quota of all ancestors; None if none is set."""
        best: Optional[QuotaLimit] = None
        for version, folder in self._folders("cpu"):
            if version == 2:
                path = f"{folder}/cpu.max"
                cpus = parse.cpu_max(self._source.read_text(path))
            else:
                path = f"{folder}/cpu.cfs_quota_us"
                quota = self._source.read_text(path)
                cpus = parse.cfs_quota(quota, self._source.read_text(f"{folder}/cpu.cfs_period_us"))
            if cpus is not None and (best is None or cpus < best.cpus):
                best = QuotaLimit(cpus, path)
        return best

    def memory(self) -> Optional[MemoryLimit]:
        """The smallest memory limit of all ancestors, including `memory.high`, above which work is throttled."""
        folders = list(self._folders("memory"))
        found = [limit for version, folder in folders for limit in self._memory_limits(version, folder)]
        # v1's memory.stat includes ancestors that a container cannot see; those it can see come first, by name
        found += [limit for version, folder in folders if version == 1 for limit in self._hidden_limits(folder)]
        return min(found, key=lambda limit: limit.limit_bytes, default=None)

    def _memory_limits(self, version: int, folder: str) -> Iterator[MemoryLimit]:
        for name in ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",):
            limit = parse.memory_limit(self._source.read_text(f"{folder}/{name}"))
            if limit is not None:
                yield MemoryLimit(limit, f"{folder}/{name}", folder)

    def _hidden_limits(self, folder: str) -> Iterator[MemoryLimit]:
        limit = parse.hierarchical_limit(self._source.read_text(f"{folder}/memory.stat"))
        if limit is not None:
            yield MemoryLimit(limit, f"{folder}/memory.stat", folder)

    def memory_used_bytes(self, limit: MemoryLimit) -> Optional[int]:
        """The memory that the limited group uses, without reclaimable page cache; None if unknown."""
        usage = self._source.read_int(f"{limit.folder}/memory.current")
        if usage is None:
            usage = self._source.read_int(f"{limit.folder}/memory.usage_in_bytes")
        if usage is None:
            return None
        return max(0, usage - parse.reclaimable_bytes(self._source.read_text(f"{limit.folder}/memory.stat")))

    def cpuset(self) -> Optional[CpusetLimit]:
        """The CPUs that the nearest group with a cpuset allows, which the kernel keeps within its parent's."""
        for version, folder in self._folders("cpuset"):
            names = ("cpuset.cpus.effective",) if version == 2 else ("cpuset.effective_cpus", "cpuset.cpus")
            for name in names:
                cpus = cpu_list(self._source.read_text(f"{folder}/{name}"))
                if cpus:
                    return CpusetLimit(cpus, f"{folder}/{name}")
        return None

    @property
    def own_note(self) -> str:
        """A sentence if one of our own services is among the ancestors; else empty."""
        names = {name for path in self._paths.values() for name in path.split("/") if name in OWN_SERVICES}
        return f"limits of {' and '.join(sorted(names))} itself are ignored" if names else ""

    def own_cpuset(self) -> Optional[frozenset[int]]:
        """The CPUs that our own service's group allows; None if there is no such group or it has no cpuset."""
        for _, folder in self._all_folders("cpuset"):
            if _is_own(folder):
                cpus = cpu_list(self._source.read_text(f"{folder}/cpuset.cpus.effective"))
                return cpus or cpu_list(self._source.read_text(f"{folder}/cpuset.cpus")) or None
        return None

    def _folders(self, controller: str) -> Iterator[tuple[int, str]]:
        """Version and folder of every group that limits the node, without our own services."""
        return (found for found in self._all_folders(controller) if not _is_own(found[1]))

    def _all_folders(self, controller: str) -> Iterator[tuple[int, str]]:
        """Version and folder of every group from this process up to the root of the mount."""
        for mount in self._mounts:
            if mount.version == 1 and controller not in mount.controllers:
                continue
            path = self._paths.get("" if mount.version == 2 else controller)
            if path is None:
                continue
            for folder in self._ancestry(mount, path):
                yield mount.version, folder

    def _ancestry(self, mount: parse.CgroupMount, path: str) -> list[str]:
        inside = _inside(mount.root, path)
        folders = []
        while inside:
            folders.append(mount.mount_point + inside)
            inside = inside.rpartition("/")[0]
        if folders and not self._source.list_dir(folders[0]):
            folders = []  # the path is the host's, but the mount shows only our part of it: its root is our group
        return [*folders, mount.mount_point]


def _is_own(folder: str) -> bool:
    return folder.rpartition("/")[2] in OWN_SERVICES


def _inside(root: str, path: str) -> str:
    """`path` relative to a mount whose root is the group `root`; empty for the root itself and for paths outside."""
    if path.startswith("/..") or root.startswith("/.."):  # outside our namespace: only the root of the mount is visible
        return ""
    if root == "/":
        return path.rstrip("/")
    if path == root or not path.startswith(root + "/"):
        return ""
    return path[len(root) :].rstrip("/")
