"""What the store's tests share: registries in both forms, and files as a killed writer leaves them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from registry_core.models.record import NodeRecord
from registry_core.models.status import NodeHealth
from registry_core.models.trusted import node_with, record_with
from registry_core.storage.open_store import open_store
from registry_core.storage.sealing import SealingKey
from registry_core.storage.sqlite.store import SqliteStore
from registry_core.storage.store import Put, Store
from tests.support.builders import a_put

KEY = SealingKey(bytes(range(32)))
OTHER_KEY = SealingKey(bytes(range(60, 92)))


@contextmanager
def opened(path: Path, key: Optional[SealingKey] = None, *, read_only: bool = False) -> Iterator[Store]:
    """A store, closed at the end."""
    store = open_store(path, key, read_only=read_only)
    try:
        yield store
    finally:
        store.close()


def filled(path: Path, count: int, key: Optional[SealingKey] = None, **fields: Any) -> list[Put]:
    """A closed registry of `count` nodes at `path`, and what was put into it."""
    puts = [a_put(number, **fields) for number in range(1, count + 1)]
    with opened(path, key) as store:
        store.commit(puts, {"event_index": "7"})
    return puts


def killed(folder: Path, commits: int, key: Optional[SealingKey] = None) -> Path:
    """The files of a writer that went away after so many commits of one node each: its log was not tidied up."""
    path, copy = folder / "live.db", folder / "killed.db"
    with opened(path, key) as store:
        assert isinstance(store, SqliteStore)
        store._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]  # it is open
        for number in range(1, commits + 1):
            store.commit([a_put(number)], {})
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    return copy


def content(path: Path, key: Optional[SealingKey] = None) -> dict[str, Any]:
    """Every node's columns and record, as a reader gets them."""
    with opened(path, key, read_only=True) as store:
        rows = list(store.rows())
        records = store.read_many([row.columns.node_id for row in rows])
        return {row.columns.node_id: (row.columns, _durable(record)) for row, record in zip(rows, records)}


def _durable(record: Optional[NodeRecord]) -> Optional[NodeRecord]:
    """Without the health, which means nothing in a record: samples are kept apart."""
    if record is None:
        return None
    return record_with(record, node=node_with(record.node, health=NodeHealth()))


def digests(folder: Path) -> dict[str, str]:
    """A digest of each file that holds data: not the lock, not SQLite's shared memory, not an empty log."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.stat().st_size and path.suffix != ".lock" and not path.name.endswith("-shm")
    }
