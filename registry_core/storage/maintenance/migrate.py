"""Converts a registry: to another kind of file, from clear to sealed and back, and from old keys to the newest.

Records are moved one by one; `backup` copies whole files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Optional, TypeVar

from registry_core.errors import DamagedStoreError
from registry_core.files.atomic import appearing, refuse_existing
from registry_core.models.status import NodeHealth, Sampled
from registry_core.storage.json_file import JsonFileStore
from registry_core.storage.maintenance.verify import Progress
from registry_core.storage.open_store import open_store
from registry_core.storage.sealing import KeyRing
from registry_core.storage.sqlite.store import SqliteStore
from registry_core.storage.store import Bury, Put, Row, Store

__all__ = ["migrate", "rotate_key"]

_AT_ONCE = 5_000
_ALL_AT_ONCE = 1 << 30  # each commit rewrites a JSON file: one commit for all records

T = TypeVar("T")


def migrate(
    source: Path,
    target: Path,
    *,
    source_keys: Optional[KeyRing] = None,
    target_keys: Optional[KeyRing] = None,
    progress: Optional[Progress] = None,
) -> int:
    """Write the content of `source` to a new registry at `target`; returns the number of nodes.

    No process may have the source open for writing: its later changes would be lost. The source is not changed.
    Raises StoreError, and then there is no target.
    """
    refuse_existing(target)
    with closing(open_store(source, source_keys, read_only=True)):
        pass  # a missing registry or a wrong key is an error before a lock file is made
    with closing(open_store(source, source_keys, read_only=False, own=False)) as old:
        rows = list(old.rows())
        with appearing(target, overwrite=False) as temporary:
            temporary.unlink()  # a store makes its own file, and rejects an empty one
            with closing(open_store(temporary, target_keys, read_only=False, own=False)) as new:
                _move(old, new, rows, progress or (lambda _done, _total: None))
    return len(rows)


def rotate_key(path: Path, keys: KeyRing, progress: Optional[Progress] = None) -> int:
    """Seal everything with the newest of `keys`; returns the number of values sealed. Can be repeated after a crash.

    Until it has ended, the older keys are needed to open the registry; afterwards only for older backups. No other
    process may have the registry open for writing. Raises StoreError.
    """
    with closing(open_store(path, keys, read_only=False, own=False)) as store:
        if isinstance(store, SqliteStore):
            return store.rewrap(progress or (lambda _done, _total: None))
        assert isinstance(store, JsonFileStore)
        return store.rewrap()


def _move(old: Store, new: Store, rows: list[Row], progress: Progress) -> None:
    at_once = _ALL_AT_ONCE if isinstance(new, JsonFileStore) else _AT_ONCE
    done = 0
    for piece in _pieces(iter(rows), at_once):
        puts = []
        for part in _pieces(iter(piece), 500):
            puts += _puts(old, part)
            progress(done + len(puts), len(rows))
        new.commit(puts, {})
        done += len(puts)
    samples = [
        Sampled(row.columns.node_id, row.sample or NodeHealth(), row.is_down)
        for row in rows
        if row.sample is not None or row.is_down
    ]
    new.save_samples(samples, wait=True)
    for tombstones in _pieces(old.tombstones(), at_once):
        new.commit([Bury(tombstone) for tombstone in tombstones], {})
    new.commit([], dict(old.all_meta()))


def _puts(old: Store, rows: list[Row]) -> list[Put]:
    records = old.read_many([row.columns.node_id for row in rows])
    puts = []
    for row, record in zip(rows, records):
        if record is None:
            raise DamagedStoreError(old.location, f"the record of node {row.columns.node_id!a} is missing")
        puts.append(Put(record, row.columns))
    return puts


def _pieces(items: Iterator[T], at_once: int) -> Iterator[list[T]]:
    while piece := list(islice(items, at_once)):
        yield piece
