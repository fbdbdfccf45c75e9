"""What a file system stands on, and what is counted once: small machines, each with one trait."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Optional

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.mount_child import directory
from agent.probe.options import ProbeOptions
from agent.probe.probes.storage import StorageProbe
from agent.probe.recording import RecordingSource
from tests.probe.test_rules import disk_usage

GB = 1_000_000_000


def told(mountinfo: str, more: str = "", work_dir: str = "/") -> tuple[dict[str, Any], list[str]]:
    text = f'ask nearest_existing {work_dir} = "{work_dir}"\n' + disk_usage("/", 100 * GB, 40 * GB, 55 * GB, 1000)
    text += f"{more}file /proc/self/mountinfo\n" + "".join(f"|{line}\n" for line in mountinfo.splitlines())
    readings, failures = StorageProbe().read(RecordingSource(text), ProbeOptions(work_dir))
    return {reading.name: reading for reading in readings}, [failure.message for failure in failures]


def mount_points(readings: dict[str, Any]) -> list[str]:
    return [item["mount_point"] for item in readings["file_systems"].value]


ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
LIVE = "file /proc/cmdline = BOOT_IMAGE=/vmlinuz {}\n"


@pytest.mark.parametrize(
    ("mountinfo", "more", "in_memory"),
    [
        ("1 0 0:1 / / rw - rootfs rootfs rw", "", True),  # an initramfs that is the system
        ("1 0 1:0 / / rw - ext4 /dev/ram0 rw", "", True),
        ("1 0 252:0 / / rw - ext4 /dev/zram0 rw", "", True),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/cow/u\n2 1 0:8 / /cow rw - tmpfs t rw", "", True),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/run/live/u\n2 1 0:8 / /run rw - tmpfs t rw", "", True),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/keep/u\n2 1 8:8 / /keep rw - ext4 /dev/sdb1 rw", "", False),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/cow/u", LIVE.format("boot=casper quiet"), True),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/cow/u", LIVE.format("boot=casper persistent"), False),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/run/overlayfs", LIVE.format("rd.live.image"), True),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/cow/u", LIVE.format("root=/dev/sda1"), False),
        # a container of a live system, and one of an ordinary one
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/var/lib/docker/x", LIVE.format("boot=live"), False),
        ("1 0 0:9 / / rw - overlay o rw,upperdir=/var/lib/docker/x", "", False),
        ("1 0 253:0 / / rw - ext4 /dev/mapper/live-rw rw", LIVE.format("rd.live.image"), True),
        (
            "1 0 7:0 / / rw - ext4 /dev/loop0 rw\n2 1 0:8 / /run rw - tmpfs t rw",
            "file /sys/dev/block/7:0/loop/backing_file = /run/disk.img\n",
            True,
        ),
        (("1 0 0:9 / / rw - overlay o rw,upperdir=/a/u\n2 1 0:8 / /a rw - overlay p rw,upperdir=/b/u\n"
          "3 1 0:7 / /b rw - tmpfs t rw"), "", True),
        (ROOT, LIVE.format("boot=casper"), False),
    ],
)  # fmt: skip
def test_storage_that_is_memory_is_told_as_that(mountinfo: str, more: str, in_memory: bool) -> None:
    assert told(mountinfo, more)[0]["storage_device"].value["in_memory"] is in_memory


@pytest.mark.parametrize(
    "fstype",
    ["fuse.mergerfs", "fuse.mhddfs", "fuse.unionfs", "fuse.shfs", "aufs", "fuse.bindfs", "fuse.gocryptfs", "ecryptfs"],
)
def test_a_file_system_made_of_others_is_not_counted_beside_them(fstype: str) -> None:
    mounted = f"{ROOT}2 1 8:2 / /mnt/a rw - ext4 /dev/sdb rw\n3 1 0:50 / /mnt/pool rw - {fstype} a:b rw"
    readings, _ = told(mounted, disk_usage("/mnt/a", 10, 5, 5) + disk_usage("/mnt/pool", 20, 5, 15))
    assert mount_points(readings) == ["/", "/mnt/a"]


@pytest.mark.parametrize(
    ("first", "second", "sizes", "count"),
    [
        ("nfs4 nas:/a", "nfs4 nas:/b", (50, 50), 1),
        ("nfs nas:/a", "nfs4 nas:/b", (50, 50), 1),
        ("nfs4 nas:/a", "nfs4 nas:/b", (50, 60), 2),  # two volumes of one server
        ("nfs4 nas:/a", "nfs4 other:/a", (50, 50), 2),
        ("cifs //nas/a", "cifs //nas/b", (50, 50), 1),
        ("cifs //nas/a", "cifs //other/a", (50, 50), 2),
        ("fuse.sshfs me@host:/a", "fuse.sshfs you@host:/b", (50, 50), 1),
        ("virtiofs home", "virtiofs tmp", (50, 50), 1),
        ("9p a", "9p b", (50, 50), 1),
        ("nfs4 [2001:db8::1]:/a", "nfs4 [2001:db8::2]:/a", (50, 50), 2),
        ("ext4 /dev/sdb1", "ext4 /dev/sdc1", (50, 50), 2),  # two disks of one size
    ],
)
def test_two_exports_of_one_volume_count_once(first: str, second: str, sizes: tuple[int, int], count: int) -> None:
    mounted = f"{ROOT}2 1 0:51 / /mnt/a rw - {first} rw\n3 1 0:52 / /mnt/b rw - {second} rw"
    more = disk_usage("/mnt/a", 1000, sizes[0], 100, 7) + disk_usage("/mnt/b", 1000, sizes[1], 100, 7)
    assert len(mount_points(told(mounted, more)[0])) == 1 + count


@pytest.mark.parametrize("reason", ["Permission denied", "Operation not permitted", "No such file or directory"])
def test_a_mount_that_is_not_for_us_to_look_at_makes_nobody_partial(reason: str) -> None:
    mounted = f"{ROOT}2 1 8:2 / /srv/private rw - ext4 /dev/sdb rw"
    readings, failures = told(mounted, f"fail disk_usage /srv/private = {reason}\n")
    assert (mount_points(readings), failures) == (["/"], [])
    assert "/srv/private" in readings["file_systems"].note


def test_one_that_is_broken_does() -> None:
    mounted = f"{ROOT}2 1 8:2 / /srv/broken rw - ext4 /dev/sdb rw"
    _, failures = told(mounted, "fail disk_usage /srv/broken = Input/output error\n")
    assert failures == ["/srv/broken (ext4 from /dev/sdb): Input/output error"]


WSL = "file /proc/sys/kernel/osrelease = 6.6.87.2-microsoft-standard-WSL2\n"
C = "3 1 0:60 / /mnt/c rw - 9p C:\\134 rw,aname=drvfs;path=C:\\134;uid=1000,trans=fd"


@pytest.mark.parametrize(
    ("drives", "available", "limited"),
    [
        (C, 20.0, "free space of the underlying drive, /mnt/c"),
        (C.replace("9p C:\\134", "virtiofs drvfsa0"), 20.0, "free space of the underlying drive, /mnt/c"),
        (C.replace("/mnt/c", "/win/c"), 20.0, "free space of the underlying drive, /win/c"),  # wsl.conf: root = /win
        (C + "\n4 1 0:61 / /mnt/d rw - 9p D:\\134 rw,path=D:\\134", 20.0, "free space of the underlying drive, /mnt/c"),
        (
            "3 1 0:60 / /usr/lib/wsl/drivers ro - 9p drivers ro",
            20.0,
            "free space of the underlying drive, /usr/lib/wsl",
        ),
        ("", 55.0, "5 GB reserved by the file system"),
    ],
)
def test_the_growing_disk_of_windows_linux_is_bounded_by_its_drive(drives: str, available: float, limited: str) -> None:
    more = WSL
    for line in drives.splitlines():
        free = 500 if line.split()[4].endswith("d") else 20
        more += disk_usage(line.split()[4], 511 * GB, (511 - free) * GB, free * GB)
    readings, failures = told(f"{ROOT}{drives}", more)
    assert failures == []
    assert readings["storage_available_gb"].value == available
    assert readings["storage_gb"].value == 40.0 + available
    assert str(readings["storage_gb"].limited_by).startswith(limited)
    assert "Windows keeps this disk in a growing file" in readings["storage_gb"].note
    assert readings["file_systems"].value[0]["available_gb"] == available


def test_a_drive_of_windows_itself_and_other_machines_with_9p_are_not_bounded() -> None:
    more = WSL + 'ask nearest_existing /mnt/c/jobs = "/mnt/c/jobs"\n' + disk_usage("/mnt/c", 511 * GB, 1, 20 * GB)
    more += disk_usage("/mnt/c/jobs", 511 * GB, 491 * GB, 20 * GB)
    readings, _ = told(ROOT + C, more, work_dir="/mnt/c/jobs")
    assert readings["storage_available_gb"].value == 20.0
    readings, _ = told(ROOT + C, disk_usage("/mnt/c", 511 * GB, 491 * GB, 20 * GB))
    assert readings["storage_available_gb"].value == 55.0


def work_dir_error(path: Path) -> Optional[str]:
    readings, failures = StorageProbe().read(LiveSource(), ProbeOptions(str(path)))
    assert ("storage_gb" in {reading.name for reading in readings}) == (not failures or failures[0].reading is None)
    return next((failure.message for failure in failures if failure.reading == "storage_gb"), None)


def test_a_work_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert work_dir_error(tmp_path / "file") == f"{tmp_path}/file: Not a directory"
    assert work_dir_error(tmp_path / "file" / "below") == f"{tmp_path}/file/below: Not a directory"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert work_dir_error(tmp_path / "link") == f"{tmp_path}/link: Not a directory"
    assert work_dir_error(tmp_path / "not" / "there") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("path", ["private", "private/jobs", "private/none"])
def test_a_work_directory_that_this_user_may_not_read_is_an_error_and_not_its_parent(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "private" / "jobs").mkdir(parents=True)
        (Path(folder) / "private").chmod(0o700)
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                directory(f"{folder}/{path}")
            except OSError as error:
                os._exit(error.errno or 255)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EACCES


def test_a_work_directory_that_a_sandbox_hides_says_so() -> None:
    mounted = f"{ROOT}2 1 0:20 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw"
    text = json.dumps("/home/x")
    more = f"fail nearest_existing {json.loads(text)} = Permission denied\n"
    readings, failures = told(mounted, more, work_dir="/home/x")
    assert failures == ["/home/x: Permission denied (hidden by the sandbox of this service)"]
    assert "hidden by the sandbox of this service: /home" in readings["file_systems"].note
