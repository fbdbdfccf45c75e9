"""The registry in an SQLite file: one row per node, records read on demand, a commit for each change.

Tables and checksums are in `rows`, opening and its checks in `open`, the thread that writes samples in `sample_writer`.

`journal_mode=WAL, synchronous=FULL`: a commit is in the log and flushed before it returns. Readers, in this process or
another, see the last commit; readers and the writer never wait for each other.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core.errors import DamagedStoreError, ReadOnlyError, SealedStoreError, StoreError
from registry_core.files.locks import PidLock, lock_beside
from registry_core.files.opening import own_place
from registry_core.models.columns import Columns
from registry_core.models.record import NodeRecord
from registry_core.models.status import Sampled
from registry_core.storage.sealing import KeyRing
from registry_core.storage.sqlite import rows as layout
from registry_core.storage.sqlite.file_handles import UsedFile
from registry_core.storage.sqlite.open import (
    KEY_CHECK,
    LABEL_KEY_BYTES,
    ROLLED_BACK,
    WRITER_CACHE_KIB,
    FileState,
    check_files,
    check_identity,
    connect,
    has_log,
    hold_names,
    key_state,
    make_new,
    open_checked,
    sealer_for,
    settle_log,
    sum_key_of,
    sum_state,
    translated,
    wal_of,
)
from registry_core.storage.sqlite.removed import RemovedTable, forgotten_at
from registry_core.storage.sqlite.rows import Stamp, id_hash
from registry_core.storage.sqlite.sample_writer import Samples, SampleWriter
from registry_core.storage.sqlite.wal import WalReport
from registry_core.storage.state_sum import SumKey, added
from registry_core.storage.store import Bury, Change, ChangedSince, Delete, Put, Row, Store, Unreadable
from registry_core.storage.tombstones import (
    NODE,
    StoredTombstone,
    TombstoneKey,
    tombstones_of_rings,
)

__all__ = ["SqliteStore"]

_log = logging.getLogger(__name__)

SOFT_SAVE_SECONDS = 60.0
_READ_AT_ONCE = 500  # host parameters in one statement; old SQLite allows 999
_SAMPLES_AT_ONCE = 2_000  # rows in one commit of samples: about 20 ms, for which a commit may have to wait
_REWRAPPED_AT_ONCE = 2_000
_IDLE_READERS = 4  # connections kept for the next reading thread


class _Transaction:
    """A context manager that commits at the end, and rolls back on an error. A class, for speed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, error: Optional[type[BaseException]], *_rest: object) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


class SqliteStore(Store):
    """A store in an SQLite file; with keys, each record is sealed."""

    soft_save_seconds = SOFT_SAVE_SECONDS
    lazy = True

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        keys: Optional[KeyRing] = None,
        own: bool = True,
        sum_key: Optional[SumKey] = None,
    ) -> None:
        """`sum_key`: the key of the sums; without it the file contains a key of its own."""
        self.read_only = read_only
        self.location = str(path)
        self._path = Path(os.path.realpath(path)) if read_only else own_place(path, "the folder of a registry", own=own)
        self._keys = keys
        self._readers: deque[sqlite3.Connection] = deque()
        self._watch: Optional[sqlite3.Connection] = None
        self._writer: Optional[sqlite3.Connection] = None
        self._writing = threading.Lock()
        self._last_commit = Stamp()
        self._sum_key = sum_key
        self._total = 0  # of the sums, as last committed
        self._removed = RemovedTable(self.location)
        self._version = 0
        self._lock: Optional[PidLock] = None if read_only else lock_beside(self._path)
        self._used: Optional[UsedFile] = None
        self._logged_nodes: set[str] = set()
        self._samples = SampleWriter(self._write_samples)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[Row]:
        """One pass over the table, in its order, and one over the index."""
        tally = layout.IndexTally()
        with self._reader("read") as connection:
            connection.execute("BEGIN")  # both see the same commit
            try:
                (found,) = connection.execute("PRAGMA user_version").fetchone()
                self._rows.read_as(found if found < layout.RECORDS_APART else 0)
                for row in connection.execute(self._rows.start_sql):
                    started = self._rows.started(row)
                    tally.add_started(row)
                    yield started
                tally.compare(connection.execute(layout.INDEX_SUMS).fetchone())
                if not self._rows.is_older:
                    tally.compare_sum(connection, self._rows.sums)
            finally:
                connection.execute("ROLLBACK")

    def read(self, node_id: str, sequence: Optional[int] = None) -> Optional[NodeRecord]:
        """One look-up in the table if the sequence is known, else one in the index too."""
        try:
            connection = self._readers.pop()
        except IndexError:
            return self.read_many((node_id,))[0]
        try:
            row = None
            if sequence is not None:
                row = connection.execute(self._rows.read_at_sql, (sequence,)).fetchone()
            if row is None or row[0] != node_id:
                row = connection.execute(self._rows.read_one_sql, (id_hash(node_id),)).fetchone()
            if row is None or row[0] != node_id:
                return None
            return self._rows.read(row)
        except (sqlite3.Error, layout.BadRow, UnicodeDecodeError):
            with translated(self.location, "read"):
                raise
        finally:
            self._readers.append(connection)

    def read_many(self, node_ids: Sequence[str], unreadable: Optional[Unreadable] = None) -> list[Optional[NodeRecord]]:
        """One statement for up to 500 nodes."""
        found: dict[str, NodeRecord] = {}
        with self._reader("read") as connection:
            for start in range(0, len(node_ids), _READ_AT_ONCE):
                hashes = [id_hash(node_id) for node_id in node_ids[start : start + _READ_AT_ONCE]]
                sql = self._rows.read_sql.format(",".join("?" * len(hashes)))
                for row in connection.execute(sql, hashes):
                    try:
                        found[row[0]] = self._rows.read(row)
                    except layout.BadRow as error:
                        if unreadable is None or error.node_id is None:
                            raise
                        unreadable(DamagedStoreError(self.location, str(error), error.node_id))
        return [found.get(node_id) for node_id in node_ids]

    def columns(self, node_id: str) -> Optional[Columns]:
        """One look-up in the index."""
        with self._reader("read") as connection:
            row = connection.execute(self._rows.columns_sql, (id_hash(node_id), node_id)).fetchone()
            return None if row is None else self._rows.started(row).columns

    def meta(self, key: str) -> Optional[str]:
        """One look-up."""
        row = self._one(layout.ONE_STATE, layout.META + key)
        return None if row is None else self._rows.opened_meta(key, row[0])

    def all_meta(self) -> dict[str, str]:
        """One statement. Omits the keys of this file."""
        return {key: text for key, text in self._all_texts().items() if key not in (layout.SUM_KEY, layout.LABEL_KEY)}

    def label_key(self) -> Optional[bytes]:
        """One look-up."""
        text = self.meta(layout.LABEL_KEY)
        if text is None:
            return None
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != LABEL_KEY_BYTES:
            raise DamagedStoreError(
                self.location, f"a record of the registry as a whole ({layout.LABEL_KEY}) is damaged"
            )
        return key

    def _all_texts(self) -> dict[str, str]:
        with self._reader("read") as connection:
            kept = connection.execute(layout.ALL_META).fetchall()
            return {
                key[len(layout.META) :]: self._rows.opened_meta(key[len(layout.META) :], value) for key, value in kept
            }

    def tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """One look-up."""
        if self._rows.is_older:
            return next((found for found in self.tombstones() if found.key == key), None)
        row = self._one(layout.ONE_TOMBSTONE, *key)
        with translated(self.location, "read"):
            found = None if row is None else self._rows.tombstone(row)
        return None if found is None or found.says_nothing else found

    def tombstones(self) -> Iterator[StoredTombstone]:
        """One statement."""
        if self._rows.is_older:
            yield from tombstones_of_rings(self.location, self.all_meta(), time.time())[0]
            return
        with self._reader("read") as connection:
            for row in connection.execute(layout.EVERY_TOMBSTONE):
                found = self._rows.tombstone(row)
                if not found.says_nothing:
                    yield found

    def last_change(self) -> int:
        """One look-up."""
        row = self._one(layout.ONE_STATE, layout.LAST_COMMIT)
        with translated(self.location, "read"):
            return Stamp.of_text(None if row is None else row[0]).number

    def changed_since(self, change: int) -> Optional[ChangedSince]:
        """Two look-ups in indexes."""
        with self._reader("read") as connection:
            connection.execute("BEGIN")  # all that follows sees one commit
            try:
                if self._rows.is_older or not forgotten_at(connection) <= change <= self.last_change():
                    return None
                put = [node_id for (node_id,) in connection.execute(layout.CHANGED, (change,))]
                removed = [node_id for (node_id,) in connection.execute(layout.REMOVED_SINCE, (change,))]
                there = {row[0] for row in _of_nodes(connection, layout.IDS, removed)}
                return ChangedSince(put, [node_id for node_id in removed if node_id not in there])
            finally:
                connection.execute("ROLLBACK")

    def state_sum(self) -> Optional[str]:
        """One look-up."""
        row = self._one(layout.ONE_STATE, layout.STATE_SUM)
        return None if row is None else str(row[0]).partition(" ")[0]

    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """One transaction, one flush of the log."""
        if self.read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        settled = _Settled(changes)
        with self._writing, translated(self.location, "written"):
            if not self._has_right_sums():
                self._make_sums_anew()
            stamp = Stamp(self._last_commit.number + 1, time.time_ns() // 1_000_000)
            try:
                with self._transaction() as connection:
                    total = self._write(connection, settled, stamp)
                    self._put_state(connection, meta)
                    commit = [(layout.LAST_COMMIT, stamp.to_text()), sum_state(self._rows, total, stamp.number)]
                    connection.executemany(layout.PUT_STATE, commit)
            except BaseException:
                self._removed.roll_back()
                raise
            self._last_commit, self._total = stamp, total

    def _write(self, connection: sqlite3.Connection, settled: _Settled, stamp: Stamp) -> int:
        """Write nodes and tombstones; returns the new total of the sums."""
        deleted, puts = settled.deleted, list(settled.puts.values())
        was, removed = 0, []
        if deleted or puts:
            gone = list(dict.fromkeys((*deleted, *settled.puts)))
            found = dict(_of_nodes(connection, layout.SUMS, gone))
            was = sum(int.from_bytes(of_it, "big") for of_it in found.values())
            removed = [TombstoneKey(NODE, each) for each in deleted if each in found and each not in settled.puts]
        if deleted:
            connection.executemany(layout.DELETE, ((id_hash(node_id), node_id) for node_id in deleted))
        total = added(self._total, -was)
        if puts:
            total = added(total, self._put(connection, puts, stamp.number))
        if removed or settled.tombstones:
            total = added(total, self._removed.write(connection, self._rows, settled.tombstones, removed, stamp))
        return total

    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:
        """Without `wait` a thread writes them, a few thousand at a time, without flushing."""
        if self.read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        taken = Samples.of(samples)
        if wait:
            self._samples.wait_until_idle()
            self._write_samples(taken, flush=True)
        elif len(taken):
            self._samples.hand_over(taken)

    def refresh(self) -> bool:
        """One read of the log's index in shared memory."""
        with translated(self.location, "read"):
            version = self._data_version()
        changed = version != self._version
        self._version = version
        return changed

    def close(self) -> None:
        """Wait for samples that are being written, write the log into the file, release the lock."""
        self._samples.close()
        connections = [*self._readers, *(item for item in (self._watch, self._writer) if item is not None)]
        self._readers.clear()
        self._watch = self._writer = None
        for connection in connections:  # the writer last: the last to close writes the log into the file
            connection.close()
        used, self._used = self._used, None
        if used is not None:
            used.end()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def rewrap(self, progress: Callable[[int, int], None]) -> int:
        """Seal everything with the newest key, some thousand records at a time; returns the number sealed.

        After a crash, records are sealed with either key, and the file states that it needs both. Raises
        SealedStoreError when nothing is sealed.
        """
        if self._keys is None:
            raise SealedStoreError(self.location, "it is not sealed, so it has no key to change")
        (total,) = self._all("SELECT count(*) FROM nodes")[0]
        done, behind = 0, -1
        while piece := self._all(layout.SOME, behind, _REWRAPPED_AT_ONCE):
            changed = [values for values in map(self._rows.rewrapped, piece) if values is not None]
            with self._writing, translated(self.location, "written"), self._transaction() as connection:
                connection.executemany(layout.REWRAP, changed)
            behind, done = piece[-1][1], done + len(changed)
            progress(done, total)
        for place in range(0, len(tombstones := self._all(layout.EVERY_TOMBSTONE)), _REWRAPPED_AT_ONCE):
            with self._writing, translated(self.location, "written"), self._transaction() as connection:
                anew = map(self._rows.rewrapped_tombstone, tombstones[place : place + _REWRAPPED_AT_ONCE])
                connection.executemany(layout.PUT_TOMBSTONE, [values for values in anew if values is not None])
        with self._writing, translated(self.location, "written"), self._transaction() as connection:
            self._put_state(connection, dict(self._all_texts()))
            connection.execute("DELETE FROM state WHERE key GLOB ?", (KEY_CHECK + "*",))
            connection.executemany(layout.PUT_STATE, key_state([self._keys.newest], self._store_id))
        return done

    def _one(self, sql: str, *values: object) -> Optional[tuple[Any, ...]]:
        """The first row, read like `read`, for queries that run at each change."""
        try:
            connection = self._readers.pop()
        except IndexError:
            return next(iter(self._all(sql, *values)), None)
        try:
            row: Optional[tuple[Any, ...]] = connection.execute(sql, values).fetchone()
            return row
        except sqlite3.Error:
            with translated(self.location, "read"):
                raise
        finally:
            self._readers.append(connection)

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._reader("read") as connection:
            return connection.execute(sql, values).fetchall()

    def _open(self) -> None:
        with translated(self.location, "read"):
            check_files(self._path, owned=not self.read_only)
        exists = self._path.exists()
        if not exists and has_log(self._path):
            raise DamagedStoreError(self.location, f"its log {wal_of(self._path).name} exists, but the file does not")
        if not exists and self.read_only:
            raise StoreError(self.location, "does not exist; opening it for writing creates it")
        if not exists:
            make_new(self._path, self._keys, self._sum_key)
        if not self.read_only:
            hold_names(self._path)
        with translated(self.location, "read"):
            self._used = UsedFile(self._path)
        layout_found = check_identity(self._path)
        state = open_checked(self._path, alone=not self.read_only)
        sealer = sealer_for(self.location, state, self._keys)
        if layout_found < layout.LAYOUT and not self.read_only:
            from registry_core.storage.sqlite.upgrade import bring_up

            bring_up(self._path, sealer, sum_key=self._sum_key)
            state = open_checked(self._path, alone=True)
        older = layout_found if self.read_only and layout_found < layout.RECORDS_APART else 0
        self._rows = layout.Rows(sealer, newer=state.newer, older=older, dropped=self._log_dropped)
        self._last_commit = state.last_commit
        with translated(self.location, "read"):
            self._rows.sums = sum_key_of(state, self._rows, self._sum_key)
        self._total = 0 if state.sum is None else state.sum.total
        self._store_id = state.store_id
        with translated(self.location, "opened"):
            if not self.read_only:
                self._open_writer(state)
            self._watch = self._writer or connect(self._path, read_only=True)
            self._version = self._data_version()

    def _open_writer(self, state: FileState) -> None:
        report = settle_log(self._path)
        writer = self._writer = connect(self._path, read_only=False, cache_kib=WRITER_CACHE_KIB)
        mode = writer.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(self.location, "its file system cannot hold SQLite's write-ahead log; use a local one")
        with self._transaction():
            if report.has_damaged_tail:
                self._note_rollback(writer, report)
            if self._keys is not None and self._keys.newest.id not in state.sealed_with:  # a new key seals from now on
                used = [self._keys.newest, *(key for key in self._keys.keys if key.id in state.sealed_with)]
                writer.executemany(layout.PUT_STATE, key_state(used, state.store_id))

    def _note_rollback(self, writer: sqlite3.Connection, report: WalReport) -> None:
        stamp = self._last_commit
        _log.log(
            logging.ERROR if report.commits_surely_lost else logging.WARNING,
            "%s: %s; rolled back to commit %d of %s",
            self.location,
            report.tail_text(),
            stamp.number,
            stamp.time_text(),
        )
        if report.commits_surely_lost or report.header_damaged:
            note = f"{report.tail_text()}; rolled back to commit {stamp.number} of {stamp.time_text()}"
            writer.execute(layout.PUT_STATE, (ROLLED_BACK, note))

    def _log_dropped(self, node_id: str, dropped: Sequence[str]) -> None:
        """Log once for each node which fields a reader of an older file drops."""
        if node_id not in self._logged_nodes:
            from registry_core.storage.older_records import log_dropped

            self._logged_nodes.add(node_id)
            log_dropped(self.location, node_id, dropped)

    @contextmanager
    def _reader(self, doing: str) -> Iterator[sqlite3.Connection]:
        """A connection that only this thread uses meanwhile; each statement sees the last commit."""
        with translated(self.location, doing):
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = connect(self._path, read_only=True)
            try:
                yield connection
            finally:
                if len(self._readers) < _IDLE_READERS:
                    self._readers.append(connection)
                else:
                    connection.close()

    def _transaction(self) -> _Transaction:
        if self._writer is None:
            raise StoreError(self.location, "was closed")
        return _Transaction(self._writer)

    def _has_right_sums(self) -> bool:
        key = self._rows.sums
        return key is not None and (self._sum_key is None or key.id == self._sum_key.id)

    def _make_sums_anew(self) -> None:
        """Make the sums again before the first commit with another key, after the registry or its key was moved."""
        from registry_core.storage.sqlite.upgrade import make_sums_anew

        before = self._rows.sums
        try:
            with self._transaction() as connection:
                total = make_sums_anew(self._path, connection, self._rows, self._sum_key)
                connection.execute(layout.PUT_STATE, sum_state(self._rows, total, self._last_commit.number))
        except BaseException:
            self._rows.sums = before
            raise
        self._total = total

    def _put(self, connection: sqlite3.Connection, puts: list[Put], change: int) -> int:
        """Write the records; returns the total of their sums."""
        total = 0

        def values() -> Iterator[tuple[Any, ...]]:
            nonlocal total
            for put in puts:
                row = self._rows.for_put(put, change)
                total += int.from_bytes(layout.sum_of(row), "big")
                yield row

        if connection.executemany(layout.PUT, values()).rowcount == len(puts):
            return total
        for put in puts:  # at least one node has another sequence: move its row and its sample
            node_id, sequence = put.columns.node_id, put.columns.sequence
            (old,) = connection.execute(layout.FIND, (id_hash(node_id), node_id)).fetchone() or (None,)
            if old is None:
                raise StoreError(self.location, f"the index entry of node {node_id!r} belongs to another node")
            if old != sequence:
                connection.execute(layout.MOVE_SAMPLE, (sequence, old))
                connection.execute(layout.DELETE, (id_hash(node_id), node_id))
                connection.execute(layout.PUT, self._rows.for_put(put, change))
        return total

    def _put_state(self, connection: sqlite3.Connection, meta: Mapping[str, Optional[str]]) -> None:
        rows: list[tuple[str, object]] = []
        for key, value in meta.items():
            if value is None:
                connection.execute(layout.DELETE_STATE, (layout.META + key,))
            else:
                rows.append((layout.META + key, self._rows.sealed_meta(key, value)))
        connection.executemany(layout.PUT_STATE, rows)

    def _write_samples(self, samples: Samples, *, flush: bool) -> None:
        """Write in pieces, so that a commit waits for one piece at most."""
        for piece in samples.pieces(len(samples) if flush else _SAMPLES_AT_ONCE):
            with self._writing, translated(self.location, "written"):
                writer = self._writer
                if writer is None:
                    return
                writer.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
                try:
                    with self._transaction() as connection:
                        connection.executemany(layout.PUT_SAMPLE, piece)
                finally:
                    writer.execute("PRAGMA synchronous = FULL")

    def _data_version(self) -> int:
        assert self._watch is not None
        return int(self._watch.execute("PRAGMA data_version").fetchone()[0])


class _Settled:
    """The net effect of a list of changes: ids to delete first, then one put per id, and tombstones."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.puts: dict[str, Put] = {}
        self.deleted: dict[str, None] = {}
        self.tombstones: dict[TombstoneKey, Optional[StoredTombstone]] = {}
        for change in changes:
            if isinstance(change, Put):
                self.puts[change.columns.node_id] = change
            elif isinstance(change, Delete):
                self.puts.pop(change.node_id, None)
                self.deleted[change.node_id] = None
            elif isinstance(change, Bury):
                self.tombstones[change.tombstone.key] = change.tombstone
            else:
                self.tombstones[change.key] = None


def _of_nodes(connection: sqlite3.Connection, sql: str, node_ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of `sql`, whose first column is the id, for these nodes."""
    for start in range(0, len(node_ids), _READ_AT_ONCE):
        wanted = set(node_ids[start : start + _READ_AT_ONCE])
        for row in connection.execute(sql.format(",".join("?" * len(wanted))), [id_hash(each) for each in wanted]):
            if row[0] in wanted:
                yield row
