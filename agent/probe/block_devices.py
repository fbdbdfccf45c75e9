"""Pools and quotas, because of which a mounted device can hold less than its file system reports."""

from __future__ import annotations

from typing import Optional

from agent.probe.parsers.mounts import Mount
from agent.probe.source import Source

__all__ = ["pool_of", "quota_options"]

_QUOTA_OPTIONS = frozenset(("quota", "usrquota", "grpquota", "prjquota", "uquota", "gquota", "pquota", "uqnoenforce"))


def quota_options(mount: Mount) -> list[str]:
    """The enabled kinds of quota; the size of the file system does not include a user's or a group's quota."""
    return [
        name for name in mount.super_options if name in _QUOTA_OPTIONS or name.startswith(("usrjquota=", "grpjquota="))
    ]


def pool_of(source: Source, mount: Mount) -> Optional[str]:
    """The ZFS pool, btrfs volume or LVM thin pool whose space this file system shares; None if there is none."""
    if mount.fstype == "zfs":
        return f"ZFS pool {mount.origin.partition('/')[0]}"
    if mount.fstype == "btrfs":
        return _btrfs_volume(source, mount)
    return _thin_pool(source, mount.device)


def _btrfs_volume(source: Source, mount: Mount) -> Optional[str]:
    name = mount.origin.rpartition("/")[2]
    for volume in source.list_dir("/sys/fs/btrfs"):
        devices = source.list_dir(f"/sys/fs/btrfs/{volume}/devices")
        # an encrypted disk is mounted by the name that device-mapper gave it, and listed as dm-0
        if any(name in (device, source.read_line(f"/sys/class/block/{device}/dm/name")) for device in devices):
            return f"btrfs {volume} of {len(devices)} {'device' if len(devices) == 1 else 'devices'}"
    return None


def _thin_pool(source: Source, device: str) -> Optional[str]:
    """A thin volume is on a device that LVM names `…-tpool`; only LVM itself knows how full it is."""
    for slave in source.list_dir(f"/sys/dev/block/{device}/slaves"):
        uuid = source.read_line(f"/sys/dev/block/{device}/slaves/{slave}/dm/uuid")
        name = source.read_line(f"/sys/dev/block/{device}/slaves/{slave}/dm/name")
        if uuid.endswith("-tpool"):
            return f"LVM thin pool {name.removesuffix('-tpool')}"
    return None
