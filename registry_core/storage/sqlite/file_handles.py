"""Reads the first bytes of a database file without losing SQLite's locks on it.

POSIX releases all locks that a process holds on a file when the process closes any handle on it, including SQLite's
locks. Without them, any other program that opens and closes the database believes that it is the last user and deletes
the log, while a writer in this process continues to write to it. So this module decides when a handle may be closed.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from registry_core.files.opening import open_regular

__all__ = ["UsedFile", "read_head"]

_guard = threading.Lock()
_users: dict[tuple[int, int], int] = {}  # file by device and inode → number of stores of this process that use it
_kept: dict[tuple[int, int], int] = {}  # the same → a handle on it, which is closed with the last of these stores


class UsedFile:
    """Marks the file at `path` as in use: made before the first connection, ended after the last. Raises OSError."""

    def __init__(self, path: Path) -> None:
        found = path.stat()
        self._file = (found.st_dev, found.st_ino)
        with _guard:
            _users[self._file] = _users.get(self._file, 0) + 1

    def end(self) -> None:
        """The store has closed all its connections."""
        with _guard:
            _users[self._file] -= 1
            if not _users[self._file]:
                del _users[self._file]
                handle = _kept.pop(self._file, None)
                if handle is not None:
                    os.close(handle)


def read_head(path: Path, size: int) -> bytes:
    """The first `size` bytes of the file, or fewer. Raises StoreError, OSError."""
    with _guard:
        found = path.stat()
        kept = _kept.get((found.st_dev, found.st_ino))
        if kept is not None:
            return _read(kept, size)
        handle = open_regular(path)
        found = os.fstat(handle)
        try:
            return _read(handle, size)
        finally:
            if (found.st_dev, found.st_ino) in _users:
                _kept[found.st_dev, found.st_ino] = handle
            else:
                os.close(handle)


def _read(handle: int, size: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, size)
