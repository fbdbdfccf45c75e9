"""Where readings come from: the one seam between the probes and the machine.

A source has four primitives: the text of a file, the names in a folder, the target of a link, and `ask`, which
answers what no file says (affinity, statvfs, interfaces …) as a plain JSON value. `LiveSource` is the machine;
a recording (`recording.py`) answers the same four from a file. The typed questions below them are shared.
Not here: parsing, and anything that judges an answer.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional

__all__ = ["FileSystemSize", "LiveSource", "Source", "SourceError"]

_MOST_BYTES = 16 * 1024 * 1024  # /proc/cpuinfo of 8,192 CPUs is about 12 MB; anything larger is not what we want


class SourceError(Exception):
    """A question that this source cannot answer; the text says why."""


class FileSystemSize(NamedTuple):
    """What statvfs says: bytes and inodes. `available` is what an ordinary user may still take."""

    total_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int
    inodes_available: int


class Source:
    """The primitives to implement, and the typed questions that are built on them."""

    def read_text(self, path: str) -> Optional[str]:
        """The text of a file; None when there is none, it is not for us to read, or the kernel has nothing to say."""
        raise NotImplementedError

    def list_dir(self, path: str) -> list[str]:
        """The sorted names in a folder, empty when there is none or it is not for us to see."""
        raise NotImplementedError

    def read_link(self, path: str) -> Optional[str]:
        """The target of a symbolic link as written, None when there is none or it is not for us to see."""
        raise NotImplementedError

    def ask(self, question: str, argument: str = "") -> Any:
        """The answer of the machine to one of `QUESTIONS`, as a JSON value. Raises SourceError, OSError."""
        raise NotImplementedError

    def read_int(self, path: str) -> Optional[int]:
        """A file that holds one decimal number; None for anything else."""
        text = self.read_text(path)
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            return None

    def read_line(self, path: str) -> str:
        """A file of one line without spaces at its ends, empty when there is none."""
        return (self.read_text(path) or "").strip("\x00 \t\r\n")

    def affinity(self) -> Optional[frozenset[int]]:
        """The CPUs that this process may be scheduled on; None where the system does not say."""
        try:
            answer = self.ask("affinity")
        except OSError:  # a filter of system calls
            return None
        if not isinstance(answer, list) or not all(isinstance(cpu, int) for cpu in answer):
            return None
        return frozenset(answer) or None

    def statvfs(self, path: str) -> FileSystemSize:
        """Sizes of the file system that holds `path`. Can hang for ever on a dead mount: call it with a deadline."""
        answer = self.ask("statvfs", path)
        if not isinstance(answer, list) or len(answer) != 5 or not all(isinstance(item, int) for item in answer):
            raise SourceError(f"statvfs {path}: {answer!r} is no answer")
        return FileSystemSize(*answer)

    def nearest_existing(self, path: str) -> str:
        """`path` with links resolved, or its nearest parent that exists. Can hang as statvfs does."""
        answer = self.ask("nearest_existing", path)
        if not isinstance(answer, str):
            raise SourceError(f"nearest parent of {path}: {answer!r} is no answer")
        return answer

    def uname(self) -> tuple[str, str, str, str, str]:
        """System, host name, release, version, machine. Raises SourceError."""
        answer = self.ask("uname")
        if not isinstance(answer, list) or len(answer) != 5 or not all(isinstance(item, str) for item in answer):
            raise SourceError(f"uname: {answer!r} is no answer")
        return answer[0], answer[1], answer[2], answer[3], answer[4]

    def interfaces(self) -> list[dict[str, Any]]:
        """Name, up and addresses of each network interface. Raises SourceError."""
        answer = self.ask("interfaces")
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise SourceError(f"interfaces: {answer!r} is no answer")
        return answer

    def load_average(self) -> float:
        """Runnable tasks of the whole host, averaged over one minute."""
        return float(self.ask("load_average"))

    def cpu_times(self) -> dict[str, float]:
        """Seconds since boot by state, over all CPUs of the host: user, system, idle, steal … by attribute name."""
        return dict(self.ask("cpu_times") or {})

    def virtual_memory(self) -> dict[str, int]:
        """Bytes of the whole host by psutil's attribute names: total, available, used …"""
        return dict(self.ask("virtual_memory") or {})


class LiveSource(Source):
    """This machine. `root` is put before every path (a mounted host file system); the calls ask the kernel."""

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")

    def read_text(self, path: str) -> Optional[str]:
        try:
            with open(self._root + path, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs 3 ms at start
                return _read_all(file.fileno()).decode("utf-8", "replace")
        except OSError:  # absent, not for us, or sysfs saying EINVAL, ENODEV, EIO: there is nothing to read
            return None

    def list_dir(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root + path))  # noqa: PTH208 - the same
        except OSError:
            return []

    def read_link(self, path: str) -> Optional[str]:
        try:
            return os.readlink(self._root + path)  # noqa: PTH115 - the same
        except OSError:
            return None

    def ask(self, question: str, argument: str = "") -> Any:
        from agent.probe import system_calls as calls

        answer = calls.QUESTIONS.get(question)
        if answer is None:
            raise SourceError(f"{question} is not a question that this version can ask")
        return answer(argument)


def _read_all(descriptor: int) -> bytes:
    """All of a file up to the cap. Files of /proc have no size, so read until nothing comes."""
    parts = []
    left = _MOST_BYTES
    while left > 0:
        part = os.read(descriptor, min(left, 1 << 18))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
