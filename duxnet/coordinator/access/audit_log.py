"""The append-only log of what changed who may take part and how nodes are judged: one JSON line each.

Here: writing. It names ids and tokens, never addresses or secrets. A change that cannot be logged is not made: its
line is noted with it, written before it is committed, and taken back where that fails. Lines reach the disk within a
second.
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
    """The open log. Noting and writing belong to the thread that commits; `sync` to any. Raises StoreError."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._noted: list[bytes] = []
        self._written = 0  # bytes of the lines of the commit under way
        self._unsynced = False
        self._descriptor = self._opened()

    def _opened(self) -> int:
        try:
            with Folder(self._path.parent) as folder:
                return folder.open(self._path.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StoreError(str(self._path), f"cannot be opened: {reason_of(error)}") from error

    def reopen(self) -> None:
        """Go on in the file that now has the log's name, after the old one was moved away. Nothing is lost."""
        self.sync()
        descriptor = self._opened()
        with self._lock:
            before, self._descriptor = self._descriptor, descriptor
            self._written = 0
            os.close(before)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """What is noted and written inside stays only if no exception comes out."""
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
        """The place in the commit under way to which `back_to` can return: how many lines wait for `write_noted`."""
        return len(self._noted)

    def back_to(self, mark: int) -> None:
        """Drop the lines that were noted since the mark: their change was refused."""
        del self._noted[mark:]

    def note(self, actor: str, action: str, node_id: str, **details: str) -> None:
        """A line for a change that is about to be committed."""
        entry = {"at": time_to_text(self._now()), "actor": actor, "action": action, "node_id": node_id, **details}
        self._noted.append(json.dumps(entry, ensure_ascii=True).encode("ascii") + b"\n")

    def write_noted(self) -> None:
        """Append the lines that were noted, whole or not at all. Inside `commit`."""
        lines = b"".join(self._noted)
        if not lines:
            return
        with self._lock:
            try:
                written = os.write(self._descriptor, lines)
                if written != len(lines):  # the disk is full in the middle of it
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                    raise StoreError(str(self._path), "cannot be written: No space left on device")
            except OSError as error:
                raise StoreError(str(self._path), f"cannot be written: {reason_of(error)}") from error
            self._unsynced = True
            self._written = written

    def sync(self) -> None:
        """Make what was written lasting; cheap when there is nothing."""
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
