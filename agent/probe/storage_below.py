"""What a mounted file system is built on: memory, other file systems that are reported too, or a Windows drive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Optional

from agent.probe.parsers.mounts import Mount, mount_of
from agent.probe.source import FileSystemSize, Source

__all__ = ["STACKED", "Drive", "is_in_memory", "same_volume", "windows_drive"]

_MEMORY = ("tmpfs", "ramfs", "rootfs")
_MEMORY_DEVICES = ("/dev/ram", "/dev/zram")
_MOST_LAYERS = 5
# Words on the kernel's command line of live systems, and of those that store changes permanently
_LIVE = ("boot=casper", "boot=live", "rd.live.image", "overlayroot=tmpfs", "systemd.volatile=", "archisobasedir=")
_KEPT = ("persistent", "persistence", "rd.live.overlay=", "cow_device=", "cow_label=", "systemd.volatile=no")
_ENGINES = ("/var/lib/", "/home/")  # where container engines store the layers of containers
# Device mappings of live systems: snapshots that keep changes in memory
_LIVE_DEVICES = ("/dev/mapper/live-rw", "/dev/mapper/live-base", "LiveOS_rootfs")

# They present other file systems of this machine again, joined or encrypted, and have no storage of their own.
STACKED = frozenset(
    (
        "aufs", "ecryptfs", "fuse.aufs", "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.fuse-overlayfs",
        "fuse.gocryptfs", "fuse.mergerfs", "fuse.mhddfs", "fuse.securefs", "fuse.shfs", "fuse.unionfs",
        "fuse.unionfs-fuse", "fuse.unionfs_fuse", "mergerfs", "unionfs",
    )
)  # fmt: skip


class Drive(NamedTuple):
    """A Windows drive that is mounted here."""

    mount_point: str
    size: FileSystemSize


def is_in_memory(source: Source, mount: Mount, table: list[Mount]) -> bool:
    """Whether it stores data in memory, which is lost at a restart."""
    for _ in range(_MOST_LAYERS):
        if mount.fstype in _MEMORY or mount.origin.startswith(_MEMORY_DEVICES):
            return True
        below = _upper_folder(mount) or _file_behind(source, mount)
        if not below:
            return mount.origin in _LIVE_DEVICES and _is_live(source)
        under = mount_of(below, [item for item in table if item.mount_point != mount.mount_point])
        if under is None:  # the layers of the root are not visible: in a container or a live system
            return _is_live(source) and not below.startswith(_ENGINES)
        mount = under
    return False


def _upper_folder(mount: Mount) -> str:
    """The folder for the changes of an overlay; empty if it is not an overlay or is read-only."""
    if mount.fstype != "overlay":
        return ""
    return next((option[9:] for option in mount.super_options if option.startswith("upperdir=/")), "")


def _file_behind(source: Source, mount: Mount) -> str:
    """The file behind a loop device."""
    if not mount.origin.startswith("/dev/loop"):
        return ""
    return source.read_line(f"/sys/dev/block/{mount.device}/loop/backing_file")


def _is_live(source: Source) -> bool:
    words = source.read_line("/proc/cmdline").split()
    return any(word.startswith(_LIVE) for word in words) and not any(word.startswith(_KEPT) for word in words)


def windows_drive(source: Source, table: list[Mount]) -> Optional[tuple[str, list[str]]]:
    """On WSL: the mount point of the drive that usually holds its disks (C:), and all mount points of drives.

    The first is empty if C: is not mounted. None on other systems.
    """
    if "microsoft" not in source.read_line("/proc/sys/kernel/osrelease").lower():
        return None
    drives = [mount for mount in table if _drive_letter(mount)]
    system = [mount.mount_point for mount in drives if _drive_letter(mount) == "c"]
    # the folder of drivers on C: is mounted even if the drives are not
    hidden = [mount.mount_point for mount in table if mount.mount_point.startswith("/usr/lib/wsl/")]
    named = [point for point in system if point.endswith("/c")] + system + hidden
    return (named[0] if named else ""), [*(mount.mount_point for mount in drives), *hidden]


def _drive_letter(mount: Mount) -> str:
    """`c` for the drive C: of WSL, mounted by 9p, virtiofs or drvfs; empty for anything else."""
    if mount.fstype not in ("9p", "virtiofs", "drvfs"):
        return ""
    path = next((part[5:] for option in mount.super_options for part in option.split(";") if part[:5] == "path="), "")
    for text in (mount.origin, path, mount.mount_point.removeprefix("/mnt/") + ":\\"):
        if len(text) in (2, 3) and text[0].isalpha() and text[1] == ":":
            return text[0].lower()
    return ""


def same_volume(
    mount: Mount, size: FileSystemSize, reported: Iterable[tuple[Mount, FileSystemSize]]
) -> Optional[Mount]:
    """The mount among `reported` with the same volume of the same server, recognised by equal sizes."""
    server = _server(mount)
    for other, its in reported:
        near = abs(size.used_bytes - its.used_bytes) <= size.total_bytes // 1000
        same = (size.total_bytes, size.inodes) == (its.total_bytes, its.inodes) and near
        if server and server == _server(other) and same:
            return other
    return None


def _server(mount: Mount) -> str:
    """The server of a network mount; empty for a disk."""
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
