"""Instruction sets, kinds of disk, /dev/kvm, runtimes, battery and temperature: what is told, and what is left null."""

from __future__ import annotations

from typing import Any

import pytest

from agent.probe.disk_kind import disk_kind
from agent.probe.facilities import facilities
from agent.probe.gpu.nvml import nvml_answer
from agent.probe.parsers.features import instruction_sets
from agent.probe.parsers.mounts import mounts
from agent.probe.recording import RecordingSource


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("flags\t: fpu avx avx2 fma aes sha_ni avx512f amx_tile\n", "avx avx2 fma avx512 amx sha aes"),
        ("flags\t: fpu avx avx2\nflags\t: fpu avx\n", "avx"),  # what only some CPUs have, no work can count on
        ("Features\t: fp asimd aes sha2 sve sve2\n", "neon sve sve2 sha aes"),
        ("Features\t: swp half neon vfpv4\n", "neon"),
        ("features\t: esan3 vx vxd vxe\n", "vx"),
        ("isa\t\t: rv64imafdcv_zicntr\n", "rvv"),
        ("isa\t\t: rv64imafdc\n", ""),
        ("cpu\t\t: POWER9, altivec supported\n", "altivec"),
        ("flags\t:\n", ""),
        ("", ""),
    ],
)
def test_instruction_sets_are_those_that_every_cpu_has(text: str, names: str) -> None:
    assert instruction_sets(text) == names.split()


DISK = "../../devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
SDA = (
    f"link /sys/dev/block/8:1 = {DISK}/sda1\nlink /sys/class/block/sda1 = {DISK}/sda1\n"
    f"link /sys/class/block/sda = {DISK}\n"
    "file /sys/class/block/sda/device/vendor = {vendor}\nfile /sys/class/block/sda/queue/rotational = {turns}\n"
)  # fmt: skip
NVME = "../../devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1"
LUKS = (
    "link /sys/dev/block/253:0 = ../../devices/virtual/block/dm-0\n"
    'dir /sys/class/block/dm-0/slaves = ["nvme0n1p2"]\n'
    f"link /sys/class/block/nvme0n1p2 = {NVME}/nvme0n1p2\n"
)
VIRTIO = "link /sys/dev/block/254:0 = ../../devices/pci0000:00/0000:00:03.0/virtio1/block/vda\n"


@pytest.mark.parametrize(
    ("text", "mounted", "kind"),
    [
        (SDA.format(vendor="ATA", turns=1), "8:1 / / rw - ext4 /dev/sda1 rw", "hdd"),
        (SDA.format(vendor="ATA", turns=0), "8:1 / / rw - ext4 /dev/sda1 rw", "ssd"),
        (SDA.format(vendor="QEMU", turns=1), "8:1 / / rw - ext4 /dev/sda1 rw", "virtual"),
        (LUKS, "253:0 / / rw - ext4 /dev/mapper/luks rw", "nvme"),
        (VIRTIO, "254:0 / / rw - ext4 /dev/vda rw", "virtual"),
        (SDA.format(vendor="ATA", turns=0), "0:33 / / rw - btrfs /dev/sda1 rw", "ssd"),  # its number is invented
        ("", "0:40 / / rw - nfs4 nas:/x rw", "network"),
        ("", "0:40 / / rw - fuse.sshfs x rw", None),
        ("", "8:1 / / rw - ext4 /dev/sda1 rw", None),
    ],
)
def test_the_kind_of_disk_is_that_of_the_disk_below(text: str, mounted: str, kind: object) -> None:
    (mount,) = mounts(f"1 0 {mounted}")
    assert disk_kind(RecordingSource(text), mount, in_memory=False) == kind
    assert disk_kind(RecordingSource(text), mount, in_memory=True) == "memory"


def told(text: str) -> dict[str, Any]:
    return {reading.name: reading.value for reading in facilities(RecordingSource(text))}


DEVTMPFS = "file /proc/self/mountinfo = 2 1 0:5 / /dev rw - devtmpfs udev rw\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('ask access /dev/kvm = "yes"\n', True),
        ('ask access /dev/kvm = "denied"\n', False),
        ('ask access /dev/kvm = "missing"\n' + DEVTMPFS, False),
        ('ask access /dev/kvm = "missing"\n' + DEVTMPFS.replace("devtmpfs", "tmpfs"), None),  # PrivateDevices=
        ("", None),
    ],
)
def test_kvm_is_told_as_missing_only_where_all_devices_are_seen(text: str, value: object) -> None:
    assert told(text)["kvm"] is value


def test_battery_and_temperature_are_null_where_there_are_none() -> None:
    empty = told("")
    assert (empty["on_mains"], empty["battery_percent"], empty["temperature_celsius"]) == (None, None, None)
    text = 'dir /sys/class/power_supply = ["BAT0"]\nask battery = {"percent": 41.0, "plugged": false}\n'
    laptop = told(text + 'dir /sys/class/hwmon = ["hwmon0"]\nask temperature = 61.5\n')
    assert (laptop["on_mains"], laptop["battery_percent"], laptop["temperature_celsius"]) == (False, 41.0, 61.5)


def test_runtimes_are_named_once() -> None:
    found = {"/usr/bin/docker": "denied", "/usr/local/bin/docker": "yes", "/usr/bin/lxc": "denied"}
    text = "".join(f'ask access {path} = "{answer}"\n' for path, answer in found.items())
    assert told(text)["container_runtimes"] == ["docker", "lxc"]


@pytest.mark.parametrize(
    ("said", "capability"), [([8, 6], "8.6"), ([9, 0], "9.0"), ([8], ""), ("8.6", ""), ([8, -1], ""), (None, "")]
)
def test_the_compute_capability_is_two_numbers_or_nothing(said: object, capability: str) -> None:
    answer = nvml_answer({"outcome": "answered", "devices": [{"errors": {}, "compute_capability": said}]})
    assert answer.gpus[0].compute_capability == capability
