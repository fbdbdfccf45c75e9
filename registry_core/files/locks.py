"""The writer's lock: one process at a time, released by the kernel however that process ends.

A lock file beside the registry, never the registry itself: that one is replaced on each commit, and a lock on a
replaced file guards nothing. The file stays behind on purpose; removing it would race with the next holder.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from functools import cache
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError, StoreInUseError
from registry_core.storage.regular_file import refuse_irregular

__all__ = ["WriterLock"]


class WriterLock:
    """Held from construction until `release`. Raises StoreInUseError with the holder's pid where known.

    `location`: how messages name the registry, by default its path. What is no regular file is refused before a
    lock file is made beside it.
    """

    def __init__(self, guarded: Path, location: Optional[str] = None) -> None:
        refuse_irregular(guarded, location or str(guarded))
        path = guarded.with_name(guarded.name + ".lock")
        try:
            self._handle: Optional[int] = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise StoreError(str(path), f"the writer's lock cannot be taken: {error.strerror}") from error
        try:
            _lock(self._handle)
        except BlockingIOError:
            holder = _pid_in(self._handle)
            self.drop()
            raise StoreInUseError(str(guarded), holder) from None
        except OSError as error:  # a file system without locks
            self.drop()
            raise StoreError(str(path), f"the writer's lock cannot be taken: {error.strerror}") from error
        with contextlib.suppress(OSError):  # a full disk must not keep the registry from being opened
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, b"%d\n" % os.getpid(), 0) if hasattr(os, "pwrite") else None
        _mind_forks()
        _held.add(self)

    def release(self) -> None:
        """Let the next writer in, even if a child of a fork has the handle too. Twice is no error."""
        if self._handle is not None:
            _unlock(self._handle)
        self.drop()

    def drop(self) -> None:
        """Close the handle: all that a forked child may do."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


@cache
def _mind_forks() -> None:
    """A forked child shares the lock: while it lived, the registry could not be opened again once the parent died.

    Closing the child's handle leaves the parent's lock as it is.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_drop_all)


def _drop_all() -> None:
    for lock in list(_held):
        lock.drop()


def _pid_in(handle: int) -> Optional[int]:
    text = os.read(handle, 32).strip()
    return int(text) if text.isdigit() else None


if sys.platform == "win32":

    def _lock(handle: int) -> None:
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None

    def _unlock(handle: int) -> None:
        """Closing the handle does it: nothing forks there."""

else:

    def _lock(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
