"""The first bytes of a database file, read so that no lock of this process is lost.

Here: when a handle on a database may be closed. Not here: what the bytes mean. POSIX gives up all locks that a process
has on a file when it closes any handle on it, SQLite's locks included: with them gone, any other program that opens
the database and closes it again believes to be the last and removes the log that a writer here goes on writing to.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from registry_core.files.opening import open_regular

__all__ = ["UsedFile", "read_head"]

_guard = threading.Lock()
_users: dict[tuple[int, int], int] = {}  # files by device and inode → how many stores of this process have it open
_kept: dict[tuple[int, int], int] = {}  # the same → a handle on it, to be closed with the last of them


class UsedFile:
    """Made before the first connection to the file at `path`, ended after the last one is closed. Raises OSError."""

    def __init__(self, path: Path) -> None:
        found = path.stat()
        self._file = (found.st_dev, found.st_ino)
        with _guard:
            _users[self._file] = _users.get(self._file, 0) + 1

    def end(self) -> None:
        """This user has no connection any more."""
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
