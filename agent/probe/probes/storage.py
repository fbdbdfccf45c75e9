"""The file system in which work is stored, and the others of this machine, each counted once.

The offer is used + available, without reserved blocks, which df's total includes. The size of each is read with a
deadline, because a dead network mount never answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

from agent.probe.block_devices import pool_of, quota_options
from agent.probe.deadline import Deadlines
from agent.probe.disk_kind import disk_kind
from agent.probe.options import ProbeOptions
from agent.probe.parsers.mounts import Mount, mount_of, mounts
from agent.probe.reading import Failure, Reading
from agent.probe.source import FileSystemSize, Source
from agent.probe.storage_below import STACKED, Drive, is_in_memory, same_volume, windows_drive
from agent.probe.visibility import NO_PROC, is_proc_hidden
from registry_core.errors import reason_of

__all__ = ["StorageProbe"]

_WAIT_SECONDS = 3.0  # a sleeping disk answers from memory; only a broken mount takes longer
_MOST_FILE_SYSTEMS = 64
_WORK = "the work directory"  # the key of its call; the other keys are mount points, which begin with a slash

# File systems without storage: the kernel's virtual ones, memory, and read-only images of programs
_NOT_STORAGE = frozenset(
    (
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "erofs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fuse.snapfuse", "fusectl", "hugetlbfs", "iso9660",
        "mqueue", "nsfs", "nullfs", "overlay", "proc", "procfs", "pstore", "ramfs", "resctrl", "rootfs", "rpc_pipefs",
        "securityfs", "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs",
    )
)  # fmt: skip

# Files that engines mount into every container from a file system of the host
_CONTAINER_FILES = frozenset(("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/termination-log"))


class StorageProbe:
    """Remembers unfinished calls, so that a dead mount costs only one thread."""

    name = "storage"
    cadence_seconds = 900.0
    deadline_seconds = 10.0

    def __init__(self, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._deadlines = Deadlines()

    def read(self, source: Source, options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        table = list(mounts(source.read_text("/proc/self/mountinfo")))
        every = _distinct(table, options.work_dir)
        distinct = every[:_MOST_FILE_SYSTEMS]

        def measure_work() -> tuple[str, FileSystemSize]:
            folder = source.nearest_existing(options.work_dir)
            return folder, source.disk_usage(folder)

        calls: dict[str, Callable[[], Any]] = {_WORK: measure_work}
        calls.update((mount.mount_point, partial(source.disk_usage, mount.mount_point)) for mount in distinct)
        answers = self._deadlines.call_all(calls, self._wait_seconds)
        below = _Below(source, table, answers)
        work, failures = self._work_dir(source, options.work_dir, table, answers[_WORK], below)
        others, other_failures = self._file_systems(distinct, answers, len(every), below) if table else ([], [])
        if not table and is_proc_hidden(source):
            other_failures = [Failure(self.name, f"{NO_PROC}: mounts cannot be listed", "file_systems")]
        return [*work, *others], [*failures, *other_failures]

    def _work_dir(
        self, source: Source, work_dir: str, table: list[Mount], found: Any, below: _Below
    ) -> tuple[list[Reading], list[Failure]]:
        if isinstance(found, BaseException):
            why = f"{reason_of(found)}{_hidden_by(work_dir, table)}"
            return [], [Failure(self.name, f"{work_dir}: {why}", "storage_gb")]
        folder, size = found
        if not _possible(size):
            return [], [Failure(self.name, f"{folder}: implausible sizes", "storage_gb", list(size))]
        return _work_readings(source, work_dir, folder, table, size, below), []

    def _file_systems(
        self, distinct: list[Mount], answers: dict[str, Any], mounted: int, below: _Below
    ) -> tuple[list[Reading], list[Failure]]:
        failures = []
        reported: list[tuple[Mount, FileSystemSize]] = []
        inaccessible = []
        for mount in distinct:
            answer = answers[mount.mount_point]
            if isinstance(answer, (PermissionError, FileNotFoundError)):  # access denied, or hidden by another mount
                inaccessible.append(mount.mount_point)
            elif isinstance(answer, BaseException):
                message = f"{mount.mount_point} ({mount.fstype} from {mount.origin}): {reason_of(answer)}"
                failures.append(Failure(self.name, message, "file_systems"))
            elif not _possible(answer):
                failures.append(
                    Failure(self.name, f"{mount.mount_point}: implausible sizes", "file_systems", list(answer))
                )
            elif answer.total_bytes > 0:
                _add_once(reported, mount, answer)
        read_from = "/proc/self/mountinfo, psutil.disk_usage"
        cut = mounted - len(distinct)
        limited_by = f"{_MOST_FILE_SYSTEMS} file systems are reported: {cut} more are left out" if cut else None
        plain = [_file_system(mount, below.bounded(mount, size)) for mount, size in reported]
        note = "; ".join(["each device once", *_left_out(inaccessible), *below.notes])
        return [Reading("file_systems", plain, "", read_from, limited_by, note=note)], failures


class _Below:
    """The bounds of WSL's disks: each is a growing file on a drive, whatever its nominal size."""

    def __init__(self, source: Source, table: list[Mount], answers: dict[str, Any]) -> None:
        found = windows_drive(source, table)
        self.drive: Optional[Drive] = None
        self._drives: list[str] = []
        self.notes = [
            f"hidden by the sandbox of this service: {mount.mount_point}" for mount in table if _is_inaccessible(mount)
        ]
        if found is None:
            return
        point, self._drives = found
        size = answers.get(point)
        if isinstance(size, FileSystemSize) and _possible(size) and size.total_bytes > 0:
            self.drive = Drive(point, size)
        self.notes.append(
            "Windows keeps this disk in a growing file, usually on C:"
            + ("" if self.drive else "; the free space there cannot be seen, and may be less")
        )

    def bounded(self, mount: Optional[Mount], size: FileSystemSize) -> FileSystemSize:
        """`size` with the available space limited to that of the underlying drive."""
        if self.drive is None or mount is None or mount.mount_point in self._drives:
            return size
        return size._replace(available_bytes=min(size.available_bytes, self.drive.size.available_bytes))


def _is_inaccessible(mount: Mount) -> bool:
    """True for systemd's mount over a folder that a service may not see (ProtectHome=, InaccessiblePaths=)."""
    return mount.root.startswith(("/systemd/inaccessible/", "/run/systemd/inaccessible/"))


def _hidden_by(path: str, table: list[Mount]) -> str:
    mount = mount_of(path, table)
    return " (hidden by the sandbox of this service)" if mount is not None and _is_inaccessible(mount) else ""


def _left_out(inaccessible: list[str]) -> list[str]:
    return [f"left out, because this user may not read them: {', '.join(inaccessible[:5])}"] if inaccessible else []


def _add_once(reported: list[tuple[Mount, FileSystemSize]], mount: Mount, size: FileSystemSize) -> None:
    """Add a file system; of two names of one server's volume keep the writable one."""
    known = same_volume(mount, size, reported)
    if known is None:
        reported.append((mount, size))
    elif "ro" in known.super_options and "ro" not in mount.super_options:
        reported[[item for item, _ in reported].index(known)] = (mount, size)


def _gb(size_bytes: int) -> float:
    return round(size_bytes / 1e9, 3)


def _possible(size: FileSystemSize) -> bool:
    """False if used and available exceed the total, as some servers of network mounts report."""
    return min(size.used_bytes, size.available_bytes, size.reserved_bytes) >= 0


def _file_system(mount: Mount, size: FileSystemSize) -> dict[str, Any]:
    return {
        "mount_point": mount.mount_point,
        "type": mount.fstype,
        "device": mount.origin,
        "usable_gb": _gb(size.usable_bytes),
        "available_gb": _gb(size.available_bytes),
        "read_only": "ro" in mount.super_options,
    }


def _distinct(table: list[Mount], work_dir: str) -> list[Mount]:
    """One mount of each file system: bind mounts and subvolumes are the same storage under another name.

    The work directory's mount represents its file system, else the mount that shows it from its root.
    """
    seen: dict[str, Mount] = {}
    work = mount_of(work_dir, table)
    ours = [work] if work is not None else []
    visible = {mount.mount_point: mount for mount in table}  # a later mount hides an earlier one
    for mount in [*ours, *visible.values()]:
        if mount.fstype in _NOT_STORAGE or mount.fstype in STACKED or mount.mount_point in _CONTAINER_FILES:
            continue
        key = _same_bytes(mount)
        known = seen.get(key)
        if known is None or (known is not work and known.root != "/" and mount.root == "/"):
            seen[key] = mount
    return [mount for mount in table if any(mount is kept for kept in seen.values())]


def _same_bytes(mount: Mount) -> str:
    """The key of a mount's storage: on btrfs, whose subvolumes have invented device numbers, the device's name."""
    if mount.fstype == "btrfs":
        return mount.origin
    return f"zfs {mount.origin.partition('/')[0]}" if mount.fstype == "zfs" else mount.device


def _limited_by(size: FileSystemSize, read_only: bool) -> Optional[str]:
    if read_only:
        return "the file system is read-only"
    if size.reserved_bytes > size.total_bytes // 1000:
        return f"{_gb(size.reserved_bytes):g} GB reserved by the file system"
    return None


def _work_readings(
    source: Source, work_dir: str, folder: str, table: list[Mount], size: FileSystemSize, below: _Below
) -> list[Reading]:
    mount = mount_of(folder, table)
    read_only = mount is not None and "ro" in mount.super_options
    read_from = f"psutil.disk_usage {folder}"
    notes = [] if folder == work_dir else [f"{work_dir} does not exist yet; {folder} is its nearest parent"]
    limited_by = _limited_by(size, read_only)
    bounded = below.bounded(mount, size)
    if bounded != size and below.drive is not None and not read_only:
        limited_by = f"free space of the underlying drive, {below.drive.mount_point}"
    note = "; ".join([*notes, *(text for text in below.notes if text.startswith("Windows"))])
    offered = 0.0 if read_only else _gb(bounded.usable_bytes)
    available = 0.0 if read_only else _gb(bounded.available_bytes)
    free = _gb(size.total_bytes - size.used_bytes)
    inodes = size.inodes_available if size.inodes else None
    readings = [
        Reading("storage_gb", offered, "GB", read_from, limited_by, host=_gb(size.total_bytes), note=note),
        Reading("storage_available_gb", available, "GB", read_from, limited_by, host=free),
        Reading("storage_inodes_available", inodes, "inodes", f"statvfs {folder}"),
    ]
    if mount is not None:
        device = _device(source, mount, table)
        readings.append(Reading("storage_device", device, "", "/proc/self/mountinfo, /sys/dev/block"))
        kind = disk_kind(source, mount, device["in_memory"])
        readings.append(Reading("storage_kind", kind, "", "/sys/class/block/*/queue/rotational"))
    return readings


def _device(source: Source, mount: Mount, table: list[Mount]) -> dict[str, Any]:
    return {
        "mount_point": mount.mount_point,
        "type": mount.fstype,
        "device": mount.origin,
        "read_only": "ro" in mount.super_options,
        "pool": pool_of(source, mount),
        "quota": quota_options(mount),
        "in_memory": is_in_memory(source, mount, table),
    }
