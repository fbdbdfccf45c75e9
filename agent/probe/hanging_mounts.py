"""Queries of mounts that may never answer, each made by a child process that can be abandoned.

A thread that waits for a dead NFS server or a stalled FUSE server cannot be ended, and keeps its whole process alive,
with every lock, even after SIGKILL. Therefore `mount_child.py` queries all file systems that are not local. A child
that the kernel does not release is remembered: its mount is not queried again until it ends.
"""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from agent.probe.deadline import MissedDeadline
from agent.probe.parsers.mounts import mounts
from agent.probe.source import SourceError, read_file

if TYPE_CHECKING:
    import subprocess

__all__ = ["MountQuestions", "Place", "ask_in_child", "hanging_place", "is_local"]

WAIT_SECONDS = 3.0
MOST_CHILDREN = 4
_KILLED_WITHIN_SECONDS = 0.3
_MOUNTS = "/proc/self/mountinfo"
_MOST_LINKS = 40  # as many as the kernel follows
_SCRIPT = f"{__file__.rpartition('/')[0]}/mount_child.py"

# This machine's kernel answers for these. All others (nfs, cifs, ceph, 9p, lustre, fuse …) wait for something else: a
# server, a host, a program. autofs mounts one of them when it is accessed.
_LOCAL = frozenset(
    (
        "apfs", "bcachefs", "befs", "bfs", "binfmt_misc", "bpf", "btrfs", "cgroup", "cgroup2", "configfs", "cramfs",
        "debugfs", "devpts", "devtmpfs", "efivarfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fusectl",
        "hfs", "hfsplus", "hugetlbfs", "iso9660", "jffs2", "jfs", "minix", "mqueue", "msdos", "nilfs2", "nsfs", "ntfs",
        "ntfs3", "nullfs", "overlay", "proc", "pstore", "ramfs", "reiser4", "reiserfs", "resctrl", "romfs", "rootfs",
        "rpc_pipefs", "securityfs", "selinuxfs", "squashfs", "sysfs", "sysv", "tmpfs", "tracefs", "ubifs", "udf", "ufs",
        "vfat", "xfs", "zfs", "zonefs",
    )
)  # fmt: skip


class Place(NamedTuple):
    """The mount that may hang, and the path inside it, with the links before the mount resolved."""

    mount_point: str
    path: str


def is_local(fstype: str) -> bool:
    """Whether this machine alone can answer for a file system of this type."""
    return fstype in _LOCAL


def hanging_place(path: str, mountinfo: Optional[str]) -> Optional[Place]:
    """Where an access to `path` reaches a mount that may hang; None if it stays on local file systems.

    Links are followed one by one, so that this process never accesses such a mount.
    """
    visible = {mount.mount_point: mount.fstype for mount in mounts(mountinfo)}  # a later mount hides an earlier one
    hanging = [point for point, fstype in visible.items() if not is_local(fstype)]
    if not hanging:
        return None
    at, links = "/", 0
    rest = path.split("/")[::-1]
    while True:
        inside = [point for point in hanging if point == "/" or at == point or at.startswith(point + "/")]
        if inside:
            return Place(max(inside, key=len), "/".join([at.rstrip("/"), *filter(None, rest[::-1])]) or "/")
        if not rest:
            return None
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = at.rpartition("/")[0] or "/"
            continue
        step = f"{at.rstrip('/')}/{name}"
        if step not in hanging and links < _MOST_LINKS:
            try:
                target = os.readlink(step)  # noqa: PTH115 - this runs for each part of a path
            except OSError:  # not a link
                target = ""
            if target:
                links += 1
                rest.extend(target.split("/")[::-1])
                at = "/" if target.startswith("/") else at
                continue
        at = step


class MountQuestions:
    """Runs at most one child for each mount and `most_children` in total, including those that the kernel holds."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS, most_children: int = MOST_CHILDREN) -> None:
        self._wait_seconds = wait_seconds
        self._most_children = most_children
        self._active: set[str] = set()
        self._held: dict[str, subprocess.Popen[bytes]] = {}
        self._changed = threading.Condition()

    def ask(self, question: str, place: Place) -> Any:
        """The same answer as `system_calls` would give. Raises MissedDeadline, OSError, SourceError."""
        end = time.monotonic() + self._wait_seconds
        with self._changed:
            self._wait_for_turn(place.mount_point, end)
            self._active.add(place.mount_point)
        try:
            return self._answer(question, place, end)
        finally:
            with self._changed:
                self._active.discard(place.mount_point)
                self._changed.notify_all()

    def _wait_for_turn(self, mount_point: str, end: float) -> None:
        while True:
            self._held = {point: child for point, child in self._held.items() if child.poll() is None}
            held = self._held.get(mount_point)
            if held is not None:
                raise MissedDeadline(f"the kernel still holds process {held.pid} of an earlier query")
            if mount_point not in self._active and len(self._active) + len(self._held) < self._most_children:
                return
            left = end - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                raise MissedDeadline(f"not queried: {len(self._active) + len(self._held)} other queries are waiting")

    def _answer(self, question: str, place: Place, end: float) -> Any:
        import json
        import select
        import subprocess
        import sys

        seconds = str(int(self._wait_seconds) + 2)
        child = subprocess.Popen(  # noqa: S603 - our own script, under our own interpreter
            [sys.executable, "-I", "-S", _SCRIPT, seconds, question, place.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        assert child.stdout is not None
        with child.stdout as pipe:
            answered = select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]
            output = os.read(pipe.fileno(), 1 << 16) if answered else b""
        self._end(place.mount_point, child)
        if not answered:
            raise MissedDeadline(f"no answer in {self._wait_seconds:g} s")
        try:
            answer = json.loads(output)
        except ValueError:
            raise SourceError(f"{question} {place.path}: the child process ended without an answer") from None
        if isinstance(answer, dict) and "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer

    def _end(self, mount_point: str, child: subprocess.Popen[bytes]) -> None:
        from subprocess import TimeoutExpired

        child.kill()
        try:
            child.wait(_KILLED_WITHIN_SECONDS)
        except TimeoutExpired:
            with self._changed:
                self._held[mount_point] = child


@lru_cache(maxsize=1)
def _questions() -> MountQuestions:
    """One for the whole process, so that all callers share the limits."""
    return MountQuestions()


def ask_in_child(question: str, path: str) -> Optional[Any]:
    """The answer for a path on a mount that may hang; None if this process can safely query it itself.

    Raises MissedDeadline, OSError, SourceError.
    """
    place = hanging_place(path, read_file(_MOUNTS))
    return None if place is None else _questions().ask(question, place)
