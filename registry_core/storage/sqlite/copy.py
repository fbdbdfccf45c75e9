"""Copies a database as of one commit, beside a running writer, which does not wait."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Callable

from registry_core.storage.sqlite.open import REGISTRY, Kind, check_identity, connect, translated

__all__ = ["copy_sqlite"]

_PAGES_AT_ONCE = 2_000  # 8 MB between two calls of `progress`


def copy_sqlite(source: Path, temporary: Path, progress: Callable[[int, int], None], kind: Kind = REGISTRY) -> None:
    """Copy one commit of a database into the empty file `temporary`; `progress` counts pages. Raises StoreError."""
    check_identity(source, kind)
    with translated(str(source), "copied"), closing(connect(source, read_only=True)) as connection:
        connection.execute("BEGIN")  # the whole copy sees the same commit
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:

            def on_progress(_status: int, remaining: int, total: int) -> None:
                progress(total - remaining, total)
                time.sleep(0)  # let other threads run

            connection.backup(copy, pages=_PAGES_AT_ONCE, progress=on_progress, sleep=0)
