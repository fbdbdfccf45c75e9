"""The append-only log of what changed who may take part and how nodes are judged: one JSON line each.

Here: writing. It names ids and tokens, never addresses or secrets. A change that cannot be logged is not made: the
line is written before it. Lines reach the disk within a second.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Callable

from registry_core.errors import StoreError
from registry_core.identity.durable_file import reason_of
from registry_core.models.times import time_to_text

__all__ = ["AuditLog"]

AUDIT_FILE = "audit.jsonl"


class AuditLog:
    """The open log. Thread-safe. Raises StoreError."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._unsynced = False
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(str(path), f"cannot be opened: {reason_of(error)}") from error

    def write(self, actor: str, action: str, node_id: str, **details: str) -> None:
        """Append one line, whole or not at all."""
        entry = {"at": time_to_text(self._now()), "actor": actor, "action": action, "node_id": node_id, **details}
        line = json.dumps(entry, ensure_ascii=True).encode("ascii") + b"\n"
        with self._lock:
            try:
                written = os.write(self._descriptor, line)
                if written != len(line):  # the disk is full in the middle of it
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                    raise StoreError(str(self._path), "cannot be written: No space left on device")
            except OSError as error:
                raise StoreError(str(self._path), f"cannot be written: {reason_of(error)}") from error
            self._unsynced = True

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
