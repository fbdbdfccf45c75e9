"""What may never answer is asked by a process of its own: at most one a mount, four in all, none that is waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.probe.deadline import MissedDeadline
from agent.probe.hanging_mounts import MountQuestions, Place, hanging_place, is_local
from agent.probe.live_source import LiveSource
from agent.state_dir import AgentRunningError, StateDir, holder_text

pytestmark = pytest.mark.xdist_group("timing")  # its mounts are seen by all who look at this machine

MOUNTS = (
    "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "2 1 0:40 / {folder}/nfs rw - nfs4 nas:/export rw\n"
    "3 1 8:2 / {folder}/disk rw - xfs /dev/sdb rw\n"
    "4 1 0:41 / {folder}/was-nfs rw - nfs4 nas:/old rw\n"
    "5 1 8:3 / {folder}/was-nfs rw - ext4 /dev/sdc rw\n"
    "6 2 8:4 / {folder}/nfs/image rw - ext4 /dev/loop0 rw\n"
)


@pytest.mark.parametrize(
    "fstype",
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "fuse", "fuseblk", "fuse.sshfs", "fuse.s3fs", "afs", "gpfs",
     "beegfs", "glusterfs", "ocfs2", "virtiofs", "vboxsf", "drvfs", "autofs", "what-comes-next"],
)  # fmt: skip
def test_every_kind_that_waits_for_somebody_else_may_hang(fstype: str) -> None:
    assert not is_local(fstype)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "vfat", "f2fs", "squashfs"])
def test_a_disk_of_this_machine_does_not(fstype: str) -> None:
    assert is_local(fstype)


@pytest.mark.parametrize(
    ("path", "mount", "rest"),
    [
        ("nfs/jobs/x", "nfs", "nfs/jobs/x"),
        ("nfs", "nfs", "nfs"),
        ("nfs/image/x", "nfs", "nfs/image/x"),  # a disk whose path leads through the mount
        ("to-nfs/x", "nfs", "nfs/jobs/x"),
        ("relative/x", "nfs", "nfs/jobs/x"),
        ("disk/../nfs/y", "nfs", "nfs/y"),
        ("disk/x", None, ""),
        ("nfs-other", None, ""),
        ("was-nfs/x", None, ""),
        ("loop/x", None, ""),
    ],
)
def test_links_are_followed_up_to_the_mount_and_never_into_it(
    tmp_path: Path, path: str, mount: object, rest: str
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "to-nfs").symlink_to(tmp_path / "nfs/jobs")
    (tmp_path / "relative").symlink_to("disk/../to-nfs")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    found = hanging_place(f"{tmp_path}/{path}", MOUNTS.format(folder=tmp_path))
    assert found == (Place(f"{tmp_path}/{mount}", f"{tmp_path}/{rest}") if mount else None)


def test_a_root_of_the_network_is_asked_apart_as_well() -> None:
    assert hanging_place("/srv/jobs", "1 0 0:9 / / rw - nfs nas:/root rw\n") == Place("/", "/srv/jobs")


def test_an_answer_and_an_error_come_through_a_child_as_they_do_without() -> None:
    asked = MountQuestions()
    assert asked.ask("nearest_existing", Place("/", "/no/such/folder")) == "/"
    told = asked.ask("disk_usage", Place("/", "/"))
    usage = LiveSource().disk_usage("/")
    assert told["total"] == usage.total_bytes
    assert abs(told["free"] - usage.available_bytes) < 1 << 30
    with pytest.raises(FileNotFoundError, match="No such file"):
        asked.ask("disk_usage", Place("/", "/no/such/folder"))
    with pytest.raises(NotADirectoryError):
        asked.ask("nearest_existing", Place("/", "/etc/passwd"))


@pytest.fixture
def held() -> Iterator[list[MountQuestions]]:
    """Made before the mount, so that it waits for what was held after the mount is gone."""
    asked: list[MountQuestions] = []
    yield asked
    for questions in asked:
        for child in questions._held.values():
            child.wait(10)


def outcome(asked: MountQuestions, place: Place) -> Any:
    try:
        return asked.ask("disk_usage", place)
    except MissedDeadline as late:
        return str(late)


def test_a_child_that_the_kernel_holds_is_named_and_its_mount_is_not_asked_again(
    held: list[MountQuestions], silent_mount: Path
) -> None:
    asked = MountQuestions(wait_seconds=0.5)
    held.append(asked)
    place = Place(str(silent_mount), str(silent_mount))
    assert outcome(asked, place) == "no answer in 0.5 s"
    (child,) = asked._held.values()
    before = time.monotonic()
    assert outcome(asked, place) == f"the kernel still holds process {child.pid} of an earlier query"
    assert time.monotonic() - before < 0.3
    # it holds nothing of ours: only its own three pipes and files
    assert len(list(Path(f"/proc/{child.pid}/fd").iterdir())) == 3


def test_there_is_one_child_a_mount_and_never_more_than_the_limit(
    held: list[MountQuestions], silent_mount: Path
) -> None:
    asked = MountQuestions(wait_seconds=1.0, most_children=2)
    held.append(asked)
    places = [Place(f"{silent_mount}{'/.' * (number % 3)}", str(silent_mount)) for number in range(9)]
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda place=place: answers.append(outcome(asked, place))) for place in places]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    tasks = Path("/proc/self/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    for thread in threads:
        thread.join()
    assert len(children) == 2
    assert len(asked._held) == 2
    assert len(answers) == 9
    assert answers.count("no answer in 1 s") == 2


def test_an_agent_beside_a_mount_that_hangs_stops_and_its_folder_can_be_used_at_once(
    silent_mount: Path, tmp_path: Path
) -> None:
    run = "import sys; from duxnet.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", run]
    environ = {**os.environ, "DUXNET_AGENT__WORK_DIR": str(silent_mount)}
    state = ["--state-dir", str(tmp_path / "state")]
    agent = subprocess.Popen([*command, "agent", *state, "--interval", "1"], stderr=subprocess.PIPE, env=environ)
    try:
        for _ in range(300):
            done = subprocess.run([*command, "status", *state, "--format", "json"], capture_output=True, env=environ)
            if done.returncode in (0, 3):
                break
            time.sleep(0.1)
        status = json.loads(done.stdout)
        assert any(str(silent_mount) in error for error in status["agent"]["probe_errors"]), status
        agent.send_signal(signal.SIGTERM)
        before = time.monotonic()
        assert agent.wait(10) == 0
        assert time.monotonic() - before < 5
    finally:
        agent.kill()
        agent.communicate()
    StateDir(tmp_path / "state").close()  # raises while another process holds it


def test_a_lock_that_a_dead_process_still_holds_is_told_as_that(tmp_path: Path) -> None:
    """Two threads: the first ends, the second waits where it cannot be ended; the process is a zombie with its lock."""
    assert "uses this state directory; stop it" in holder_text(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        while "Z" not in Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2][:3]:
            time.sleep(0.01)
        assert "has exited, but the kernel still holds it" in holder_text(ended.pid)
        assert "has exited" in str(AgentRunningError(str(tmp_path), ended.pid))
    finally:
        ended.wait()
