"""Locks between processes, which the kernel releases however their holder ends.

A lock file lies beside the file that it protects. It is never that file itself: a JSON registry is replaced on each
commit, and a lock on a replaced file protects nothing. The lock file is never removed: that would race with the next
holder.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError, StoreInUseError, reason_of
from registry_core.files.opening import Folder

__all__ = ["PidLock", "lock_beside", "locked_folder", "pid_of_holder"]

_BETWEEN_ATTEMPTS_SECONDS = 0.05


class PidLock:
    """Holds the lock file `path`, with this process's id in it, from construction until `release`.

    `guarded` is the path that the lock protects. Waits up to `wait_seconds` for another holder. Raises
    StoreInUseError, with the holder's pid where known, and StoreError.
    """

    def __init__(self, path: Path, guarded: Path, *, wait_seconds: float = 0.0) -> None:
        try:
            with Folder(path.parent) as folder:
                self._handle: Optional[int] = folder.open(path.name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreError(str(path), f"the lock cannot be taken: {reason_of(error)}") from error
        try:
            self._take(wait_seconds)
        except BlockingIOError:
            holder = _pid_in(self._handle)
            self.drop()
            raise StoreInUseError(str(guarded), holder) from None
        except OSError as error:  # a file system without locks
            self.drop()
            raise StoreError(str(path), f"the lock cannot be taken: {reason_of(error)}") from error
        with contextlib.suppress(OSError):  # a full disk must not keep the registry from being opened
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, b"%d\n" % os.getpid())
        _drop_in_forks()
        _held.add(self)

    def _take(self, wait_seconds: float) -> None:
        assert self._handle is not None
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                _lock(self._handle)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_BETWEEN_ATTEMPTS_SECONDS)
            else:
                return

    def release(self) -> None:
        """Release the lock, even if a forked child also has the handle. May be called twice."""
        if self._handle is not None:
            _unlock(self._handle)
        self.drop()

    def drop(self) -> None:
        """Close the handle without releasing the lock, as a forked child must."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def lock_beside(guarded: Path) -> PidLock:
    """The writer's lock of the registry at `guarded`. Raises what `PidLock` does."""
    return PidLock(guarded.with_name(guarded.name + ".lock"), guarded)


def pid_of_holder(path: Path) -> Optional[int]:
    """The process id in the lock file `path` while the lock is held; None when it is not, or cannot be read."""
    import fcntl  # not on Windows, where no agent runs

    try:
        with Folder(path.parent) as folder:
            handle = folder.open(path.name, os.O_RDONLY)
    except (OSError, StoreError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(handle)
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; other processes that lock it wait. Raises StoreError."""
    import fcntl  # Windows has none; there this function is not used, but the module must be importable

    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(Folder(path))
            handle = stack.enter_context(folder.opened())
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(str(path), f"cannot be opened: {reason_of(error)}") from error
        yield


_held: weakref.WeakSet[PidLock] = weakref.WeakSet()


@cache
def _drop_in_forks() -> None:
    """Close the locks' handles in forked children.

    A forked child shares the lock: while it lives, the registry could not be opened again after the parent died.
    Closing the child's handle does not release the parent's lock.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_drop_all)


def _drop_all() -> None:
    for lock in list(_held):
        lock.drop()


def _pid_in(handle: int) -> Optional[int]:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        text = os.read(handle, 32).strip()
    except OSError:  # Windows: a locked file cannot be read
        return None
    return int(text) if text.isdigit() else None


if sys.platform == "win32":

    def _lock(handle: int) -> None:
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None

    def _unlock(handle: int) -> None:
        """Closing the handle releases the lock: Windows has no forks."""

else:

    def _lock(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)
