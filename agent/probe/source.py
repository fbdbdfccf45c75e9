"""Sources: the single interface between the probes and the machine.

A source has four primitives: the text of a file, the names in a folder, the target of a link, and `ask`, which returns
the result of a call (affinity, disk usage, interfaces …) as a plain JSON value. `live_source` reads this machine; a
recording (`recording.py`) implements the same four from a file. Both share the typed queries built on them. A source
does not parse or judge what it reads.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional

__all__ = ["FileSystemSize", "Source", "SourceError", "read_file"]

_MOST_BYTES = 16 * 1024 * 1024  # /proc/cpuinfo of 8,192 CPUs is about 12 MB; anything larger is unexpected


class SourceError(Exception):
    """A query that this source cannot answer; the text states why."""


class FileSystemSize(NamedTuple):
    """Bytes and inodes of a file system. `available` is what an ordinary user can still use; the total includes what is
    reserved for root.
    """

    total_bytes: int
    used_bytes: int
    available_bytes: int
    inodes: int
    inodes_available: int

    @property
    def usable_bytes(self) -> int:
        """The bytes that an ordinary user can use in total."""
        return self.used_bytes + self.available_bytes

    @property
    def reserved_bytes(self) -> int:
        """The bytes that the file system reserves."""
        return self.total_bytes - self.usable_bytes


class Source:
    """The primitives to implement, and the typed queries that use them."""

    def read_text(self, path: str) -> Optional[str]:
        """The text of a file; None if there is none, access is denied, or the kernel has no value."""
        raise NotImplementedError

    def list_dir(self, path: str) -> list[str]:
        """The sorted names in a folder, empty if there is none or access is denied."""
        raise NotImplementedError

    def read_link(self, path: str) -> Optional[str]:
        """The target of a symbolic link as written, None if there is none or access is denied."""
        raise NotImplementedError

    def ask(self, question: str, argument: str = "") -> Any:
        """The machine's answer to one of `QUESTIONS`, as a JSON value. Raises SourceError, OSError."""
        raise NotImplementedError

    def read_int(self, path: str) -> Optional[int]:
        """The number in a file that contains one decimal number; None for anything else."""
        text = self.read_text(path)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            return None

    def read_line(self, path: str) -> str:
        """The text of a one-line file without surrounding white space, empty if there is none."""
        return (self.read_text(path) or "").strip("\x00 \t\r\n")

    def affinity(self) -> Optional[frozenset[int]]:
        """The CPUs on which this process may run; None if unknown."""
        try:
            answer = self.ask("affinity")
        except OSError:  # blocked by a system-call filter
            return None
        if not isinstance(answer, list) or not all(isinstance(cpu, int) for cpu in answer):
            return None
        return frozenset(answer) or None

    def disk_usage(self, path: str) -> FileSystemSize:
        """Sizes of the file system of `path`. It takes seconds on a dead mount: call it with a deadline.

        Raises SourceError, OSError, MissedDeadline.
        """
        answer = self._numbers("disk_usage", path)
        names = ("total", "used", "free", "inodes", "inodes_available")
        if not all(isinstance(answer.get(name), int) for name in names):
            raise SourceError(f"disk_usage {path}: {answer!r} is not a valid answer")
        return FileSystemSize(*(answer[name] for name in names))

    def nearest_existing(self, path: str) -> str:
        """`path` with links resolved, or its nearest existing parent folder. It can take as long as disk_usage.

        Raises SourceError, OSError (for a file, or if access is denied), MissedDeadline.
        """
        answer = self.ask("nearest_existing", path)
        if not isinstance(answer, str):
            raise SourceError(f"nearest parent of {path}: {answer!r} is not a valid answer")
        return answer

    def uname(self) -> tuple[str, str, str, str, str]:
        """System, host name, release, version, machine. Raises SourceError."""
        answer = self.ask("uname")
        if not isinstance(answer, list) or len(answer) != 5 or not all(isinstance(item, str) for item in answer):
            raise SourceError(f"uname: {answer!r} is not a valid answer")
        return answer[0], answer[1], answer[2], answer[3], answer[4]

    def interfaces(self) -> list[dict[str, Any]]:
        """Name, up, mtu and addresses of each network interface. Raises SourceError, OSError."""
        answer = self.ask("interfaces")
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise SourceError(f"interfaces: {answer!r} is not a valid answer")
        return answer

    def load_average(self) -> float:
        """The host's number of runnable tasks, averaged over one minute."""
        return float(self.ask("load_average"))

    def cpu_times(self) -> dict[str, Any]:
        """Seconds since boot by state, over all CPUs of the host: user, system, idle, steal … by psutil's names.

        Raises SourceError, OSError.
        """
        return self._numbers("cpu_times")

    def virtual_memory(self) -> dict[str, Any]:
        """Bytes of the whole host by psutil's names: total, available, used … Raises SourceError, OSError."""
        return self._numbers("virtual_memory")

    def physical_memory(self) -> dict[str, Any]:
        """Bytes of the whole host, `total` and `available` (page cache not counted), without /proc.

        Raises SourceError, OSError.
        """
        return self._numbers("physical_memory")

    def swap_memory(self) -> dict[str, Any]:
        """Bytes of the host's swap by psutil's names: total, used, free … Raises SourceError, OSError."""
        return self._numbers("swap_memory")

    def _numbers(self, question: str, argument: str = "") -> dict[str, Any]:
        answer = self.ask(question, argument)
        if not isinstance(answer, dict) or not all(isinstance(item, (int, float)) for item in answer.values()):
            raise SourceError(f"{question} {argument}".rstrip() + f": {answer!r} is not a valid answer")
        return answer


def read_file(path: str) -> Optional[str]:
    """The text of a file of this machine; None if it cannot be read."""
    try:  # not pathlib: its import takes longer than all the probe reads
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read_all(descriptor).decode("utf-8", "replace")
    except OSError:  # a folder, or EINVAL, ENODEV or EIO of sysfs: there is nothing to read
        return None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    """The content of a file, up to the limit. Files of /proc have no size, so it reads until the end.

    It reads in parts, because /proc/sys refuses reads of 4 MiB and more.
    """
    parts = []
    left = _MOST_BYTES
    while left > 0:
        part = os.read(descriptor, min(left, 1 << 18))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
