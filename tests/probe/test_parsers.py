"""Each parser on text that kernels have written, and on text that is almost that."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from agent.probe.parsers.addresses import Scope, scope_of
from agent.probe.parsers.cgroup import cfs_quota, cgroup_mounts, cgroup_paths, cpu_max, memory_limit, reclaimable_bytes
from agent.probe.parsers.cpu import cpu_list, cpu_model
from agent.probe.parsers.meminfo import arc_stats, meminfo
from agent.probe.parsers.mounts import mount_of, mounts
from agent.probe.parsers.release import os_release, pretty_name
from agent.probe.probes.host import _hmac_sha256


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3\n", {0, 1, 2, 3}),
        ("0", {0}),
        ("0,2-3,8", {0, 2, 3, 8}),
        ("", set()),
        ("\n", set()),
    ],
)
def test_a_cpu_list_is_the_set_of_its_numbers_and_ranges(text: str, cpus: set[int]) -> None:
    assert cpu_list(text) == frozenset(cpus)


@pytest.mark.parametrize("text", [None, "3-0", "a", "0-", "-1", "0,,1", "0-99999999", "1.5", "٣"])
def test_a_text_that_is_no_cpu_list_is_not_known(text: str) -> None:
    assert cpu_list(text) is None


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("model name\t: Intel(R)  Xeon(R) CPU\n", "Intel(R) Xeon(R) CPU"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "ARM Neoverse-N1"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd05\nCPU part\t: 0xd0b\n", "ARM Cortex-A55 + Cortex-A76"),
        ("CPU implementer\t: 0x61\nCPU part\t: 0x022\nCPU part\t: 0x023\n", "Apple Icestorm (M1) + Firestorm (M1)"),
        ("CPU implementer\t: 0x61\nCPU part\t: 0x000\n", "Apple"),  # in a guest of Apple's hypervisor
        ("CPU implementer\t: 0x4e\nCPU part\t: 0x004\n", "NVIDIA Carmel"),
        ("CPU implementer\t: 0x51\nCPU part\t: 0x001\n", "Qualcomm Oryon"),
        ("CPU implementer\t: 0xc0\nCPU part\t: 0xac4\n", "Ampere-1a"),
        ("processor 0: version = FF,  machine = 3931\nprocessor 1: machine = 3931\n", "IBM/S390 machine 3931"),
        ("CPU implementer\t: 0x99\nCPU part\t: 0x001\n", "implementer 0x99 part 0x001"),
        ("processor\t: 0\nhart\t: 0\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n", "sifive,u74-mc"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("processor 0: version = FF\ncpu : 0\n", ""),
        ("", ""),
    ],
)
def test_every_architecture_names_its_processor_in_its_own_way(text: str, model: str) -> None:
    assert cpu_model(text) == model


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("50000 100000\n", 0.5), ("250000 100000", 2.5), ("max 100000\n", None), ("100000", 1.0), ("0 100000", None)],
)
def test_cpu_max_is_quota_over_period(text: str, cpus: float) -> None:
    assert cpu_max(text) == cpus


def test_minus_one_is_no_quota() -> None:
    assert cfs_quota("-1\n", "100000\n") is None
    assert cfs_quota("50000\n", "100000\n") == 0.5
    assert cfs_quota("50000", None) is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1073741824\n", 1073741824),
        ("max\n", None),
        ("9223372036854771712\n", None),  # 2⁶³ − 4096
        ("9223372036854710272\n", None),  # 2⁶³ − 65536, on kernels with pages of 64 KiB
        ("-1", None),
        ("18446744073709551615", None),
    ],
)
def test_unlimited_memory_is_written_in_several_ways(text: str, limit: int) -> None:
    assert memory_limit(text) == limit


def test_the_larger_figure_of_droppable_cache_is_the_subtrees() -> None:
    assert reclaimable_bytes("cache 5\ninactive_file 10\ntotal_inactive_file 30\n") == 30
    assert reclaimable_bytes("inactive_file x\n") == 0


def test_both_cgroup_versions_may_be_mounted_at_once() -> None:
    text = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    assert [(mount.version, "cpu" in mount.controllers) for mount in cgroup_mounts(text)] == [(1, True), (2, False)]
    assert cgroup_paths("4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c:d\nnonsense\n") == {
        "cpu": "/a",
        "cpuacct": "/a",
        "name=systemd": "/b",
        "": "/c:d",
    }


def test_a_meminfo_line_may_lack_its_space_or_its_unit() -> None:
    text = (
        "MemTotal:        2048 kB\nMemFree:1024kB\nHugePages_Total:       3\nNode 0 Active(anon): 4 kB\nBroken: x kB\n"
    )
    assert meminfo(text) == {"MemTotal": 2097152, "MemFree": 1048576, "HugePages_Total": 3, "Active(anon)": 4096}


def test_the_zfs_cache_is_read_by_name() -> None:
    assert arc_stats("13 1 0x01\nname type data\nc 4 50\nsize 4 40\nc_min 4 2\n") == {"c": 50, "size": 40, "c_min": 2}


def test_a_mount_point_with_spaces_is_unescaped_and_super_options_are_told_apart() -> None:
    (mount,) = mounts("70 25 8:1 /a\\040b /mnt/x\\134y ro,nosuid shared:4 master:2 - ext4 /dev/sda1 rw,discard\n")
    assert (mount.root, mount.mount_point, mount.super_options) == ("/a b", "/mnt/x\\y", ("rw", "discard"))


def test_the_longest_mount_point_holds_a_path_and_the_last_of_equals() -> None:
    table = list(
        mounts("1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /var rw - ext4 b rw\n3 1 8:3 / /var rw - ext4 c rw\nbad line\n")
    )
    assert mount_of("/var/lib", table) is table[2]
    assert mount_of("/variable", table) is table[0]
    assert mount_of("/x", []) is None


def test_the_system_is_called_as_it_calls_itself() -> None:
    assert pretty_name('NAME="A"\nPRETTY_NAME="A \\"B\\" 1"\n') == 'A "B" 1'
    assert pretty_name("NAME=Alpine\nVERSION=3\n") == "Alpine 3"
    assert pretty_name(None) == ""
    assert os_release("# comment\nID='x'\n=y\n") == {"ID": "x"}


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("8.8.8.8", Scope.PUBLIC),
        ("10.1.2.3", Scope.PRIVATE),
        ("172.31.0.1", Scope.PRIVATE),
        ("172.32.0.1", Scope.PUBLIC),
        ("100.64.0.1", Scope.PRIVATE),
        ("169.254.9.9", Scope.LINK),
        ("127.0.0.1", Scope.LOOPBACK),
        ("0.0.0.0", Scope.NONE),
        ("224.0.0.1", Scope.NONE),
        ("256.1.1.1", Scope.NONE),
        ("010.0.0.1", Scope.NONE),
        ("240.0.0.1", Scope.NONE),
        ("::ffff:8.8.8.8", Scope.NONE),
        ("2001:db8::zz", Scope.NONE),
        ("fe80::1%eth0", Scope.LINK),
        ("2001:db8::1", Scope.PUBLIC),
        ("fd00::1", Scope.PRIVATE),
        ("fe80::1", Scope.LINK),
        ("::1", Scope.LOOPBACK),
        ("::", Scope.NONE),
        ("ff02::1", Scope.NONE),
        ("host.example", Scope.NONE),
    ],
)
def test_addresses_are_ordered_by_how_far_they_reach(address: str, scope: int) -> None:
    assert scope_of(address) == scope


def test_the_hint_is_a_true_hmac() -> None:
    assert _hmac_sha256(b"key", b"message") == hmac.new(b"key", b"message", hashlib.sha256).digest()
