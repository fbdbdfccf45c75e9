"""The append-only log of changes to membership, admission and reputation: one JSON line for each change.

Lines name node ids and token numbers, never addresses or secrets. A change that cannot be logged is not made: its line
is written before the change is committed, and removed if the commit fails. Lines are synced to disk within a second.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Callable

from registry_core.errors import StoreError, reason_of
from registry_core.files.opening import Folder
from registry_core.models.times import time_to_text

__all__ = ["AuditLog"]

AUDIT_FILE = "audit.jsonl"


class AuditLog:
    """The open log. Only the commit thread notes and writes lines; any thread may sync. Raises StoreError."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._noted: list[bytes] = []
        self._written = 0  # bytes written in the current commit
        self._unsynced = False
        self._descriptor = self._opened()

    def _opened(self) -> int:
        try:
            with Folder(self._path.parent) as folder:
                return folder.open(self._path.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StoreError(str(self._path), f"cannot be opened: {reason_of(error)}") from error

    def reopen(self) -> None:
        """Continue in a new file of the same name after the old one was moved away. No line is lost."""
        self.sync()
        descriptor = self._opened()
        with self._lock:
            before, self._descriptor = self._descriptor, descriptor
            self._written = 0
            os.close(before)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """A context that removes the lines written inside if an exception leaves it."""
        self._written = 0
        try:
            yield
        except BaseException:
            self._take_back()
            raise
        finally:
            self._noted.clear()

    def _take_back(self) -> None:
        with self._lock, suppress(OSError):
            before = os.fstat(self._descriptor).st_size - self._written
            if self._written and before >= 0:
                os.ftruncate(self._descriptor, before)

    def mark(self) -> int:
        """Returns the position in the current commit, for `back_to`: the number of noted lines."""
        return len(self._noted)

    def back_to(self, mark: int) -> None:
        """Drop the lines noted since the mark, whose change was refused."""
        del self._noted[mark:]

    def note(self, actor: str, action: str, node_id: str, **details: str) -> None:
        """Note a line for a change that is about to be committed."""
        entry = {"at": time_to_text(self._now()), "actor": actor, "action": action, "node_id": node_id, **details}
        self._noted.append(json.dumps(entry, ensure_ascii=True).encode("ascii") + b"\n")

    def write_noted(self) -> None:
        """Append all noted lines or none. Called inside `commit`."""
        lines = b"".join(self._noted)
        if not lines:
            return
        with self._lock:
            try:
                written = os.write(self._descriptor, lines)
                if written != len(lines):  # the disk became full
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                    raise StoreError(str(self._path), "cannot be written: No space left on device")
            except OSError as error:
                raise StoreError(str(self._path), f"cannot be written: {reason_of(error)}") from error
            self._unsynced = True
            self._written = written

    def sync(self) -> None:
        """Sync the written lines to disk. Returns at once if there are none."""
        with self._lock:
            if not self._unsynced:
                return
            self._unsynced = False
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise StoreError(str(self._path), f"cannot be written: {reason_of(error)}") from error

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        with self._lock:
            os.close(self._descriptor)
