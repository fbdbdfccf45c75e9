"""What kind of disk a mounted file system is on: nvme, ssd, hdd, flash, virtual, network or memory."""

from __future__ import annotations

from typing import Optional

from agent.probe.hanging_mounts import is_local
from agent.probe.parsers.mounts import Mount
from agent.probe.source import Source

__all__ = ["disk_kind"]

_BLOCK = "/sys/class/block"
_MOST_LAYERS = 5
_VIRTUAL = ("vd", "xvd", "hv")  # a virtual disk claims to be rotational, whatever it is stored on
_VIRTUAL_MAKERS = ("qemu", "vmware", "msft", "vbox", "google", "xen", "0x1af4")


def disk_kind(source: Source, mount: Mount, in_memory: bool) -> Optional[str]:
    """The kind; None if the kernel does not report it."""
    if in_memory:
        return "memory"
    if not is_local(mount.fstype):
        return None if mount.fstype.startswith("fuse") else "network"
    disk = (source.read_link(f"/sys/dev/block/{mount.device}") or mount.origin).rpartition("/")[2]
    for _ in range(_MOST_LAYERS):
        below = source.list_dir(f"{_BLOCK}/{disk}/slaves")  # LUKS, LVM, RAID: the kind of the first disk
        if not below:
            break
        disk = below[0]
    return _kind_of(source, disk)


def _kind_of(source: Source, disk: str) -> Optional[str]:
    place = (source.read_link(f"{_BLOCK}/{disk}") or "").rstrip("/").split("/")
    whole = place[-2] if len(place) > 2 and place[-2] != "block" else disk  # a partition is in its disk's folder
    if whole.startswith(_VIRTUAL):
        return "virtual"
    if whole.startswith("nvme"):
        return "nvme"
    if whole.startswith("mmcblk"):
        return "flash"
    if source.read_line(f"{_BLOCK}/{whole}/device/vendor").lower().startswith(_VIRTUAL_MAKERS):
        return "virtual"
    turns = source.read_int(f"{_BLOCK}/{whole}/queue/rotational")
    return None if turns is None else "hdd" if turns else "ssd"
