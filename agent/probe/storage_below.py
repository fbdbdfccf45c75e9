"""What a mounted file system stands on: memory, other file systems that are told too, or a drive of Windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from agent.probe.parsers.mounts import Mount, mount_of
from agent.probe.source import FileSystemSize, Source

__all__ = ["STACKED", "Drive", "is_in_memory", "same_volume", "windows_drive"]

_MEMORY = ("tmpfs", "ramfs", "rootfs")
_MEMORY_DEVICES = ("/dev/ram", "/dev/zram")
_MOST_LAYERS = 5
# How the starters of live systems name themselves on the kernel's command line, and their ways to keep changes
_LIVE = ("boot=casper", "boot=live", "rd.live.image", "overlayroot=tmpfs", "systemd.volatile=", "archisobasedir=")
_KEPT = ("persistent", "persistence", "rd.live.overlay=", "cow_device=", "cow_label=", "systemd.volatile=no")
_ENGINES = ("/var/lib/", "/home/")  # where container engines keep the layers of their containers
# Mapped by the starter of a live system: a snapshot whose changes go into memory
_LIVE_DEVICES = ("/dev/mapper/live-rw", "/dev/mapper/live-base", "LiveOS_rootfs")

# They show other file systems of this machine again, joined, encrypted or elsewhere: none has bytes of its own.
STACKED = frozenset(
    (
        "aufs", "ecryptfs", "fuse.aufs", "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.fuse-overlayfs",
        "fuse.gocryptfs", "fuse.mergerfs", "fuse.mhddfs", "fuse.securefs", "fuse.shfs", "fuse.unionfs",
        "fuse.unionfs-fuse", "fuse.unionfs_fuse", "mergerfs", "unionfs",
    )
)  # fmt: skip


class Drive(NamedTuple):
    """A drive of Windows that is mounted here."""

    mount_point: str
    size: FileSystemSize


def is_in_memory(source: Source, mount: Mount, table: list[Mount]) -> bool:
    """Whether what is stored there is memory, which is gone after a restart."""
    for _ in range(_MOST_LAYERS):
        if mount.fstype in _MEMORY or mount.origin.startswith(_MEMORY_DEVICES):
            return True
        below = _upper_folder(mount) or _file_behind(source, mount)
        if not below:
            return mount.origin in _LIVE_DEVICES and _is_live(source)
        under = mount_of(below, [item for item in table if item.mount_point != mount.mount_point])
        if under is None:  # the layers of a root lie outside of what can be seen: a container's, or a live system's
            return _is_live(source) and not below.startswith(_ENGINES)
        mount = under
    return False


def _upper_folder(mount: Mount) -> str:
    """The folder that takes an overlay's changes; empty for what is none, or is for reading only."""
    if mount.fstype != "overlay":
        return ""
    return next((option[9:] for option in mount.super_options if option.startswith("upperdir=/")), "")


def _file_behind(source: Source, mount: Mount) -> str:
    """The file that a loop device shows."""
    if not mount.origin.startswith("/dev/loop"):
        return ""
    return source.read_line(f"/sys/dev/block/{mount.device}/loop/backing_file")


def _is_live(source: Source) -> bool:
    words = source.read_line("/proc/cmdline").split()
    return any(word.startswith(_LIVE) for word in words) and not any(word.startswith(_KEPT) for word in words)


def windows_drive(source: Source, table: list[Mount]) -> Optional[tuple[str, list[str]]]:
    """Of Windows' Linux: the drive that mostly holds its disks, and the mount points that show a drive.

    None elsewhere. The drive is C:, empty where it is not mounted.
    """
    if "microsoft" not in source.read_line("/proc/sys/kernel/osrelease").lower():
        return None
    drives = [mount for mount in table if _drive_letter(mount)]
    system = [mount.mount_point for mount in drives if _drive_letter(mount) == "c"]
    # C:'s folder of drivers is there also where the drives are not mounted
    hidden = [mount.mount_point for mount in table if mount.mount_point.startswith("/usr/lib/wsl/")]
    named = [point for point in system if point.endswith("/c")] + system + hidden
    return (named[0] if named else ""), [*(mount.mount_point for mount in drives), *hidden]


def _drive_letter(mount: Mount) -> str:
    """`c` for what Windows' Linux mounts as C:, by 9p, virtiofs or drvfs; empty for anything else."""
    if mount.fstype not in ("9p", "virtiofs", "drvfs"):
        return ""
    path = next((part[5:] for option in mount.super_options for part in option.split(";") if part[:5] == "path="), "")
    for text in (mount.origin, path, mount.mount_point.removeprefix("/mnt/") + ":\\"):
        if len(text) in (2, 3) and text[0].isalpha() and text[1] == ":":
            return text[0].lower()
    return ""


def same_volume(mount: Mount, size: FileSystemSize, told: Iterable[tuple[Mount, FileSystemSize]]) -> Optional[Mount]:
    """The mount among `told` that shows the same volume of the same server, which names no volume: equal sizes do."""
    server = _server(mount)
    for other, its in told:
        near = abs(size.used_bytes - its.used_bytes) <= size.total_bytes // 1000
        same = (size.total_bytes, size.inodes) == (its.total_bytes, its.inodes) and near
        if server and server == _server(other) and same:
            return other
    return None


def _server(mount: Mount) -> str:
    """Who keeps the bytes of a network mount; empty for a disk."""
    if mount.fstype in ("9p", "virtiofs", "drvfs", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "prl_fs"):
        return "the host of this machine"
    if mount.fstype in ("cifs", "smb3", "smbfs"):
        return "cifs " + mount.origin.replace("\\", "/").strip("/").partition("/")[0]
    if mount.fstype.startswith(("nfs", "ceph", "fuse.ceph", "fuse.sshfs", "fuse.gluster", "lustre", "beegfs")):
        return f"{mount.fstype.rstrip('4')} {_host_of(mount.origin)}"
    return ""


def _host_of(origin: str) -> str:
    """`server` of `server:/export`, `user@server:/folder` and `[2001:db8::1]:/export`."""
    return origin.partition("]")[0] if origin.startswith("[") else origin.partition(":/")[0].rpartition("@")[2]
