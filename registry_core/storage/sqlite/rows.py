"""The layout of a registry in a SQLite file: tables, columns, checksums, and what each seal is bound to.

This module has the SQL and converts between records and rows; `open` and `store` have the connections. Everything that
a start reads is in separate columns, so that it decodes no record.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Callable, NamedTuple, Optional, Union

from registry_core.models.columns import Columns, columns_of
from registry_core.models.record import NodeRecord
from registry_core.models.status import Conditions, NodeHealth, Sampled
from registry_core.models.times import time_to_text
from registry_core.models.trusted import health_sample
from registry_core.storage.packed_records import pack, pack_tombstone, unpack, unpack_tombstone
from registry_core.storage.record_codec import is_read_back
from registry_core.storage.sealing import CannotOpen, Sealer
from registry_core.storage.state_sum import StateSum, SumKey, added
from registry_core.storage.store import Put, Row
from registry_core.storage.tombstones import Retention, StoredTombstone, TombstoneKey

__all__ = ["APPLICATION_ID", "LAYOUT", "SCHEMA", "BadRow", "Rows", "id_hash"]

APPLICATION_ID = 0x44555852  # "DUXR", at byte 68 of the file, where file(1) and SQLite tools look
LAYOUT = 3  # PRAGMA user_version: the tables below. The meaning of the records has its own version, in `state`
RECORDS_APART = 3
"""From this layout on a node's own fields are separate from the registry's; `older_records` reads older ones."""
SCHEMA = "duxnet.nodes/1.1"

_COLUMNS = (
    ("id", "TEXT NOT NULL"),
    ("sequence", "INTEGER PRIMARY KEY"),
    ("score", "INTEGER NOT NULL"),
    ("admission", "TEXT NOT NULL"),
    ("cordoned", "INTEGER NOT NULL"),
    ("cordoned_until", "REAL"),
    ("has_left", "INTEGER NOT NULL"),
    ("cpu_cores", "INTEGER NOT NULL"),
    ("memory_gb", "REAL NOT NULL"),
    ("storage_gb", "REAL NOT NULL"),
    ("gpu_enabled", "INTEGER NOT NULL"),
    ("host_cpus", "INTEGER NOT NULL"),
    ("interval_seconds", "REAL NOT NULL"),
    ("gpus", "TEXT NOT NULL"),
)
_ACCOUNT = (
    ("change", "INTEGER NOT NULL"),  # the number of the commit that wrote the row
    ("sum", "BLOB NOT NULL"),  # of the record before sealing: see `state_sum`
)
_CLEAR = (*_COLUMNS, *_ACCOUNT)
_BESIDE = (
    ("id_hash", "INTEGER NOT NULL UNIQUE"),
    ("labels", "NOT NULL"),  # wallet and tags: text, or sealed
    ("columns_checksum", "INTEGER NOT NULL"),
    ("record_checksum", "INTEGER NOT NULL"),
    ("record", "BLOB NOT NULL"),  # last: a start reads only the columns before it
)
_ALL = (*_CLEAR, *_BESIDE)
_WIDTH = len(_CLEAR)
_OLD_WIDTH = len(_COLUMNS)  # of layouts 1 and 2
_NAMES = [name for name, _kind in _ALL]
_CLEAR_NAMES = ", ".join(f"nodes.{name}" for name, _kind in _CLEAR)
_OLD_CLEAR_NAMES = _CLEAR_NAMES.replace("nodes.change, nodes.sum", "0, x''")

CREATE_NODES = f"""
CREATE TABLE nodes ({", ".join(f"{name} {kind}" for name, kind in _ALL)});
CREATE INDEX nodes_change ON nodes (change);
CREATE TRIGGER forget_sample AFTER DELETE ON nodes BEGIN
  DELETE FROM samples WHERE sequence = old.sequence;
END;
CREATE TABLE removed (
  kind TEXT NOT NULL, key TEXT NOT NULL, change INTEGER NOT NULL, at REAL NOT NULL, retention INTEGER NOT NULL,
  sum BLOB NOT NULL, checksum INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX removed_order ON removed (retention, change);
"""  # noqa: S608 - the names above, no input
CREATE = f"""
CREATE TABLE state (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE samples (
  sequence INTEGER PRIMARY KEY, load_average REAL, memory_usage REAL, disk_usage REAL, last_heartbeat REAL,
  is_down INTEGER NOT NULL DEFAULT 0
);
{CREATE_NODES}"""

PUT = f"""
INSERT INTO nodes ({", ".join(_NAMES)}) VALUES ({", ".join("?" * len(_ALL))})
ON CONFLICT (id_hash) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in ("id", "sequence", "id_hash"))}
WHERE id = excluded.id AND sequence = excluded.sequence
"""  # noqa: S608 - the names above, no input
FIND = "SELECT sequence FROM nodes WHERE id_hash = ? AND id = ?"
DELETE = "DELETE FROM nodes WHERE id_hash = ? AND id = ?"
PUT_SAMPLE = "INSERT OR REPLACE INTO samples SELECT sequence, ?, ?, ?, ?, ? FROM nodes WHERE id_hash = ? AND id = ?"
MOVE_SAMPLE = "UPDATE samples SET sequence = ? WHERE sequence = ?"
START = f"""
SELECT {_CLEAR_NAMES}, labels, columns_checksum, id_hash,
  load_average, memory_usage, disk_usage, last_heartbeat, is_down
FROM nodes LEFT JOIN samples USING (sequence) ORDER BY nodes.sequence
"""  # noqa: S608 - the names above
# The same sums over the index alone: a changed entry would hide a node from look-ups by id.
INDEX_SUMS = """
SELECT count(*), ifnull(sum(id_hash & 4294967295), 0), ifnull(sum(id_hash >> 32), 0), ifnull(sum(sequence), 0)
FROM nodes INDEXED BY sqlite_autoindex_nodes_1
"""
COLUMNS = f"""
SELECT {_CLEAR_NAMES}, labels, columns_checksum, id_hash, NULL, NULL, NULL, NULL, 0
FROM nodes WHERE id_hash = ? AND id = ?
"""  # noqa: S608 - the names above
READ_PLAIN = "SELECT id, record_checksum, record FROM nodes WHERE id_hash IN ({})"
READ_SEALED = f"SELECT {_CLEAR_NAMES}, record_checksum, record FROM nodes WHERE id_hash IN ({{}})"  # noqa: S608 - the names above
_WHOLE = f"SELECT {_CLEAR_NAMES}, id_hash, labels, columns_checksum, record_checksum, record FROM nodes"  # noqa: S608 - the names above
EVERYTHING = f"{_WHOLE} ORDER BY sequence"
SOME = f"{_WHOLE} WHERE sequence > ? ORDER BY sequence LIMIT ?"
SUMS = "SELECT id, sum FROM nodes WHERE id_hash IN ({})"
CHANGED = "SELECT id FROM nodes INDEXED BY nodes_change WHERE change > ? ORDER BY sequence"
CHANGE_SUMS = "SELECT count(*), ifnull(sum(change), 0), ifnull(sum(sequence), 0) FROM nodes INDEXED BY nodes_change"
REMOVED_SINCE = f"""
SELECT key FROM removed INDEXED BY removed_order
WHERE retention IN ({", ".join(str(int(each)) for each in Retention)}) AND change > ? AND kind = 'node'
ORDER BY change, key
"""  # noqa: S608 - numbers
PUT_TOMBSTONE = """
INSERT OR REPLACE INTO removed (kind, key, change, at, retention, sum, checksum, content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_TOMBSTONE = "SELECT kind, key, change, at, retention, sum, checksum, content FROM removed"
ONE_TOMBSTONE = f"{_TOMBSTONE} WHERE kind = ? AND key = ?"
EVERY_TOMBSTONE = f"{_TOMBSTONE} ORDER BY change, kind, key"
SOME_TOMBSTONES = f"{_TOMBSTONE} WHERE retention = ? ORDER BY change, kind, key LIMIT ?"
DELETE_TOMBSTONE = "DELETE FROM removed WHERE kind = ? AND key = ?"
RETAINED = "SELECT retention, count(*) FROM removed GROUP BY retention"
META = "registry:"  # before the keys of `meta` in the table `state`
IDS = "SELECT id FROM nodes WHERE id_hash IN ({})"
ALL_META = "SELECT key, value FROM state WHERE key GLOB 'registry:*'"
STATE_SUM = "state_sum"  # keys in the table `state`
LAST_COMMIT = "last_commit"
FORGOTTEN = "forgotten"
"""The newest change of a removal whose tombstone is gone."""
SUM_KEY = "sum_key"
"""The key of `meta` for the key of the store's sums, unless the caller keeps it."""
LABEL_KEY = "label_key"
"""The key of `meta` for the key of the hashes of labels."""
PUT_STATE = "INSERT OR REPLACE INTO state VALUES (?, ?)"
ONE_STATE = "SELECT value FROM state WHERE key = ?"
DELETE_STATE = "DELETE FROM state WHERE key = ?"

Clear = tuple[Any, ...]
Labels = Union[str, bytes]


class BadRow(Exception):  # noqa: N818 - the store turns it into a DamagedStoreError with its path
    """A damaged row. The text names the record and what is wrong with it."""

    def __init__(self, node_id: object, sequence: object, what: str) -> None:
        self.node_id = node_id if isinstance(node_id, str) else None
        name = f"the record of node {str(node_id)[:128]!a}" if node_id is not None else "a record"
        super().__init__(f"{name} (number {sequence}) is damaged: {what}" if sequence is not None else f"{name} {what}")


class Stamp(NamedTuple):
    """A commit: its number, and the wall-clock time in Unix milliseconds (only for people)."""

    number: int = 0
    at_ms: int = 0

    @classmethod
    def of_text(cls, text: object) -> Stamp:
        """The stamp that `to_text` wrote. Raises ValueError."""
        number, at_ms = str(text).split(" ")
        return cls(int(number), int(at_ms))

    def to_text(self) -> str:
        """The text for `state`."""
        return f"{self.number} {self.at_ms}"

    def time_text(self) -> str:
        """The time for people."""
        if self.at_ms <= 0:
            return "no time (nothing was committed yet)"
        return str(time_to_text(datetime.fromtimestamp(self.at_ms / 1000, timezone.utc)))


def id_hash(node_id: str) -> int:
    """64 bits of the id for the index, which is a third of the size of one over the ids and twice as fast to fill."""
    return int.from_bytes(
        hashlib.blake2b(node_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


class IndexTally:
    """Computes from the rows of `START` the totals that `INDEX_SUMS` computes from the index; adds the rows' sums."""

    def __init__(self) -> None:
        self._count = self._low = self._high = self._sequences = self._changes = 0
        self.total = 0

    def add_started(self, row: tuple[Any, ...]) -> None:
        """Add one row of `START`, after it was checked."""
        self._add(row[_WIDTH + 2], row)

    def add_whole(self, row: tuple[Any, ...]) -> None:
        """Add one row of `EVERYTHING`, after it was checked."""
        self._add(row[_WIDTH], row)

    def _add(self, place: int, row: tuple[Any, ...]) -> None:
        self.total += int.from_bytes(row[_WIDTH - 1], "big")
        self._changes += row[_WIDTH - 2]
        self._count += 1
        self._low += place & 0xFFFFFFFF
        self._high += place >> 32
        self._sequences += row[1]

    def compare_sum(self, connection: sqlite3.Connection, key: Optional[SumKey]) -> None:
        """Raises BadRow when rows and tombstones do not add up to the sum after the last commit.

        Also when a tombstone does not match its checksum: its node would return as a newcomer.
        """
        removed = 0
        for row in connection.execute(_TOMBSTONE):
            check_tombstone_sum(row)
            removed += int.from_bytes(row[5], "big")
        found = connection.execute(CHANGE_SUMS).fetchone()
        if found != (self._count, self._changes, self._sequences):
            raise BadRow(None, None, "is missing from the index of changes")
        kept = dict(connection.execute("SELECT key, value FROM state WHERE key IN (?, ?)", (STATE_SUM, LAST_COMMIT)))
        try:
            state = StateSum.of_text(kept.get(STATE_SUM))
            number = Stamp.of_text(kept.get(LAST_COMMIT)).number
        except ValueError:
            raise BadRow(None, None, "of the registry as a whole (its sum) is damaged") from None
        if added(self.total, removed) != state.total or not state.is_marked(key, number):
            what = "is missing, was added, or differs from the one that was committed"
            raise BadRow(None, None, f"{what}: another program changed the file; restore a backup")

    def compare(self, sums: tuple[int, ...]) -> None:
        """Raises BadRow when the index does not hold exactly the rows of the table."""
        if sums != (self._count, self._low, self._high, self._sequences):
            what = f"is missing: the table has {self._count} nodes, its index {sums[0]}, and they differ"
            raise BadRow(None, None, what)


class Rows:
    """Converts between records and rows, in clear or sealed. Raises BadRow for a damaged row."""

    def __init__(
        self,
        sealer: Optional[Sealer],
        *,
        sums: Optional[SumKey] = None,
        newer: bool = False,
        older: int = 0,
        dropped: Callable[[str, Sequence[str]], None] = lambda _node_id, _what: None,
    ) -> None:
        """`sums`: the key of the sums, for writing rows and, if it is given, for `check`.

        `older`: the file's layout if that is 1 or 2; `dropped` is called with the dropped fields of a record.
        """
        self._sealer = sealer
        self.sums = sums
        self._newer = newer
        self._dropped = dropped
        self.read_as(older)

    def read_as(self, older: int) -> None:
        """Read rows of the older layout 1 or 2; 0: of today's layout."""
        self._older = older
        names = _OLD_CLEAR_NAMES if older else _CLEAR_NAMES

        def of_layout(sql: str) -> str:
            return sql.replace(_CLEAR_NAMES, names)

        self.start_sql = of_layout(START).replace("is_down", "0" if older == 1 else "is_down")
        self.columns_sql = of_layout(COLUMNS)
        self.everything_sql, self.some_sql = of_layout(EVERYTHING), of_layout(SOME)
        self.read_sql = READ_PLAIN if self._sealer is None else of_layout(READ_SEALED)
        self.read_one_sql = self.read_sql.format("?")
        self.read_at_sql = self.read_sql.partition(" WHERE ")[0] + " WHERE sequence = ?"

    def another(self) -> Rows:
        """A copy that reads and writes like this one, but can be given another key of sums."""
        return Rows(self._sealer, sums=self.sums, newer=self._newer)

    @property
    def is_older(self) -> bool:
        """Whether the file is of layout 1 or 2."""
        return bool(self._older)

    def for_put(self, put: Put, change: int) -> tuple[Any, ...]:
        """The values of `PUT`. Raises BadRow for a record that could not be read back unchanged."""
        return self._values(_clear(put.columns), put.columns.labels, self._packed(put.record), change)

    def _values(self, columns: Clear, labels: Labels, packed: bytes, change: int) -> tuple[Any, ...]:
        """The row of this record. `labels` as bytes are damaged, and stay as they are."""
        assert self.sums is not None
        clear = (*columns, change, self.sums.of_node(str(columns[0]), packed))
        bound = _bound(clear)
        record = packed
        if self._sealer is not None:
            if isinstance(labels, str):
                labels = self._sealer.seal(labels.encode("utf-8"), b"labels" + bound)
            record = self._sealer.seal(record, b"record" + bound)
        place = id_hash(columns[0])
        checksums = (_columns_checksum(bound, place, labels), _record_checksum(columns[0], record))
        return (*clear, place, labels, *checksums, record)

    def started(self, row: tuple[Any, ...]) -> Row:
        """The checked columns and sample of a row of `START`."""
        clear, (labels, checksum, place) = row[:_WIDTH], row[_WIDTH : _WIDTH + 3]
        bound = self._bound(clear)
        if _columns_checksum(bound, place, labels) != checksum:
            raise BadRow(clear[0], clear[1], "its columns do not match their checksum")
        if self._sealer is not None:
            labels = self._opened(clear, b"labels", bound, labels).decode("utf-8")
        return Row(_columns(clear, labels), _sample(row[_WIDTH + 3 : -1]), row[-1] == 1)

    def read(self, row: tuple[Any, ...]) -> NodeRecord:
        """The checked record of a row of `read_sql`."""
        return self._unpacked(row[0], self._opened_record(row))

    def _opened_record(self, row: tuple[Any, ...]) -> bytes:
        node_id, checksum, record = row[0], row[-2], row[-1]
        if not isinstance(record, bytes) or _record_checksum(node_id, record) != checksum:
            raise BadRow(node_id, None, "does not match its checksum")
        if self._sealer is not None:
            clear = row[:_WIDTH]
            record = self._opened(clear, b"record", self._bound(clear), record)
        return record

    def check(self, row: tuple[Any, ...]) -> None:
        """Check everything in a row of `EVERYTHING`. Raises BadRow."""
        place, labels, columns_checksum = row[_WIDTH : _WIDTH + 3]
        self.check_sums(row)
        if place != id_hash(row[0]):
            raise BadRow(row[0], row[1], "its index entry belongs to another node")
        columns = self.started((*row[:_WIDTH], labels, columns_checksum, place, *(None,) * 5)).columns
        packed = self._opened_record(row)
        if columns_of(self._unpacked(row[0], packed)) != columns:
            raise BadRow(row[0], row[1], "its columns do not follow from its record")
        if self.sums is not None and not self._older and self.sums.of_node(row[0], packed) != row[_WIDTH - 1]:
            raise BadRow(row[0], row[1], "its record does not match its sum")

    def check_sums(self, row: tuple[Any, ...]) -> None:
        """Check in a row of `EVERYTHING` what needs no key. Raises BadRow."""
        clear, (place, labels, columns_checksum, record_checksum, record) = row[:_WIDTH], row[_WIDTH:]
        if _columns_checksum(self._bound(clear), place, labels) != columns_checksum:
            raise BadRow(clear[0], clear[1], "its columns do not match their checksum")
        if not isinstance(record, bytes) or _record_checksum(clear[0], record) != record_checksum:
            raise BadRow(clear[0], clear[1], "its record does not match its checksum")

    def rewrapped(self, row: tuple[Any, ...]) -> Optional[tuple[Any, ...]]:
        """The values of `REWRAP` that seal a row of `EVERYTHING` with the newest key; None when it is already."""
        clear, (place, labels, _columns_sum, _record_sum, record) = row[:_WIDTH], row[_WIDTH:]
        sealer = self._sealer
        if sealer is None or (sealer.is_newest(labels) and sealer.is_newest(record)):
            return None
        self.check_sums(row)
        bound = self._bound(clear)
        labels = sealer.seal(self._opened(clear, b"labels", bound, labels), b"labels" + bound)
        record = sealer.seal(self._opened(clear, b"record", bound, record), b"record" + bound)
        return (labels, _columns_checksum(bound, place, labels), _record_checksum(clear[0], record), record, clear[1])

    def written_anew(self, row: tuple[Any, ...], newest: Rows, change: int) -> tuple[Any, ...]:
        """The values of `PUT`, as `newest` writes them, for a row of `EVERYTHING`. Raises BadRow if it is damaged."""
        self.check_sums(row)
        clear, labels, bound = row[:_WIDTH], row[_WIDTH + 1], self._bound(row[:_WIDTH])
        packed = self._opened_record(row)
        record = self._unpacked(row[0], packed)
        if self._older and not _is_arranged_as_today(record, packed):
            return newest.for_put(Put(record, columns_of(record)), change)
        if self._sealer is not None:
            labels = self._opened(clear, b"labels", bound, labels).decode("utf-8")
        return newest._values(clear[:_OLD_WIDTH], labels, packed, change)

    def damaged_anew(self, row: tuple[Any, ...], newest: Rows, change: int) -> tuple[Any, ...]:
        """As `written_anew` for a damaged row: damaged parts are copied unchanged, and are found again later."""
        assert newest.sums is not None
        clear, (place, labels, columns_checksum, record_checksum, record) = row[:_WIDTH], row[_WIDTH:]
        bound = self._bound(clear)
        raw = record if isinstance(record, bytes) else ascii(record).encode("ascii")
        now = (*clear[:_OLD_WIDTH], change, newest.sums.of_node(str(clear[0]), raw))
        if _columns_checksum(bound, place, labels) == columns_checksum:
            bound_now = _bound(now)
            if self._sealer is not None and newest._sealer is not None:
                try:
                    opened = self._opened(clear, b"labels", bound, labels)
                    labels = newest._sealer.seal(opened, b"labels" + bound_now)
                except BadRow:
                    pass  # the seal of a damaged row does not match afterwards either
            columns_checksum = _columns_checksum(bound_now, place, labels)
        return (*now, place, labels, columns_checksum, record_checksum, record)

    def for_tombstone(self, tombstone: StoredTombstone, change: int) -> tuple[Any, ...]:
        """The values of `PUT_TOMBSTONE`."""
        assert self.sums is not None
        content = pack_tombstone(tombstone)
        key = tombstone.key
        of_it = self.sums.of_tombstone(*key, content)
        clear = (*key, change, float(tombstone.at), int(tombstone.retention), of_it)
        if self._sealer is not None:
            content = self._sealer.seal(content, b"removed" + _bound(clear))
        return (*clear, zlib.crc32(content, zlib.crc32(_bound(clear))), content)

    def tombstone(self, row: tuple[Any, ...]) -> StoredTombstone:
        """The checked tombstone of a row of the table `removed`."""
        return self._unpacked_tombstone(row, self._opened_tombstone(row))

    def check_tombstone(self, row: tuple[Any, ...]) -> None:
        """Check everything in a row of the table `removed`. Raises BadRow."""
        content = self._opened_tombstone(row)
        found = self._unpacked_tombstone(row, content)
        if found.retention != row[4] or found.at != row[3]:
            raise _bad_tombstone(row, "its columns do not follow from it")
        if self.sums is not None and self.sums.of_tombstone(row[0], row[1], content) != row[5]:
            raise _bad_tombstone(row, "it does not match its sum")

    def rewrapped_tombstone(self, row: tuple[Any, ...]) -> Optional[tuple[Any, ...]]:
        """The values of `PUT_TOMBSTONE` that seal it with the newest key; None when it is already."""
        sealer = self._sealer
        if sealer is None or sealer.is_newest(row[7]):
            return None
        content = sealer.seal(self._opened_tombstone(row), b"removed" + _bound(row[:6]))
        return (*row[:6], zlib.crc32(content, zlib.crc32(_bound(row[:6]))), content)

    def _opened_tombstone(self, row: tuple[Any, ...]) -> bytes:
        check_tombstone_sum(row)
        content: bytes = row[7]
        if self._sealer is None:
            return content
        try:
            return self._sealer.open(content, b"removed" + _bound(row[:6]))
        except CannotOpen as error:
            raise _bad_tombstone(row, str(error)) from None

    def _unpacked_tombstone(self, row: tuple[Any, ...], content: bytes) -> StoredTombstone:
        try:
            return unpack_tombstone(TombstoneKey(row[0], row[1]), content, newer=self._newer)
        except ValueError as error:
            raise _bad_tombstone(row, str(error)) from None

    def sealed_meta(self, key: str, value: str) -> Labels:
        """A text of the registry as a whole, as `state` stores it."""
        return (
            value if self._sealer is None else self._sealer.seal(value.encode("utf-8"), b"meta" + key.encode("utf-8"))
        )

    def opened_meta(self, key: str, kept: object) -> str:
        """The text that `state` stores under this key."""
        if self._sealer is None and isinstance(kept, str):
            return kept
        if self._sealer is None or not isinstance(kept, bytes):
            raise BadRow(None, None, f"of the registry as a whole ({key}) is damaged")
        try:
            return self._sealer.open(kept, b"meta" + key.encode("utf-8")).decode("utf-8")
        except CannotOpen as error:
            raise BadRow(None, None, f"of the registry as a whole ({key}) is damaged: {error}") from None

    @staticmethod
    def _packed(record: NodeRecord) -> bytes:
        try:
            packed = pack(record)
            if is_read_back(record, unpack(packed)):
                return packed
            why = "reading it back would give a different record"
        except (ValueError, ArithmeticError, TypeError) as error:
            why = str(error)
        raise BadRow(record.node.id, None, f"cannot be stored: {why}")

    def _opened(self, clear: Clear, what: bytes, bound: bytes, sealed: object) -> bytes:
        assert self._sealer is not None
        if not isinstance(sealed, bytes):
            raise BadRow(clear[0], clear[1], "it is not sealed, but the store is")
        try:
            return self._sealer.open(sealed, what + bound)
        except CannotOpen as error:
            raise BadRow(clear[0], clear[1], str(error)) from None

    def _unpacked(self, node_id: str, record: bytes) -> NodeRecord:
        try:
            found = self._of_older_layout(node_id, record) if self._older else unpack(record, newer=self._newer)
        except ValueError as error:
            raise BadRow(node_id, None, f"cannot be read: {error}") from None
        if found.node.id != node_id:
            raise BadRow(node_id, None, "belongs to another node")
        return found

    def _bound(self, clear: Clear) -> bytes:
        return _bound(clear[:_OLD_WIDTH] if self._older else clear)

    def _of_older_layout(self, node_id: str, record: bytes) -> NodeRecord:
        from registry_core.storage.older_records import unpack_older

        found, dropped = unpack_older(record, newer=self._newer)
        if dropped:
            self._dropped(node_id, dropped)
        return found


def _is_arranged_as_today(record: NodeRecord, packed: bytes) -> bool:
    try:
        return is_read_back(record, unpack(packed))
    except ValueError:
        return False


def change_of(row: tuple[Any, ...]) -> int:
    """The change number of a row of `EVERYTHING`, or of the values of `PUT`."""
    return int(row[_WIDTH - 2])


def sum_of(row: tuple[Any, ...]) -> bytes:
    """The sum of a row of `EVERYTHING`, or of the values of `PUT`."""
    found: bytes = row[_WIDTH - 1]
    return found


def check_tombstone_sum(row: tuple[Any, ...]) -> None:
    """Check in a row of the table `removed` what needs no key. Raises BadRow."""
    if not isinstance(row[7], bytes) or zlib.crc32(row[7], zlib.crc32(_bound(row[:6]))) != row[6]:
        raise _bad_tombstone(row, "it does not match its checksum")


def _bad_tombstone(row: tuple[Any, ...], what: str) -> BadRow:
    name = f"{str(row[0])[:16]!a} {str(row[1])[:128]!a}"
    return BadRow(None, None, f"of the removed {name} is damaged: {what}")


REWRAP = "UPDATE nodes SET labels = ?, columns_checksum = ?, record_checksum = ?, record = ? WHERE sequence = ?"


def sample_values(sample: Sampled) -> tuple[Optional[float], ...]:
    """The gauges, the time (Unix seconds) and 1 for down, as `samples` stores them."""
    _node_id, health, is_down = sample
    at = health.last_heartbeat
    seen = None if at is None else at.timestamp()
    return health.load_average, health.memory_usage, health.disk_usage, seen, float(is_down)


def _clear(columns: Columns) -> Clear:
    """Exactly the values that SQLite returns, so that checksum and seal match when they are read."""
    until = columns.cordoned_until
    return (
        columns.node_id,
        columns.sequence,
        columns.score,
        columns.admission,
        int(columns.cordoned),
        None if until is None else float(until),
        int(columns.left),
        columns.cpu_cores,
        float(columns.memory_gb),
        float(columns.storage_gb),
        int(columns.gpu_enabled),
        columns.host_cpus,
        float(columns.interval_seconds),
        columns.gpus,
    )


def _bound(clear: Clear) -> bytes:
    """The columns as bytes. Uses `ascii`, not `repr`, whose output depends on Python's Unicode tables."""
    if len(clear) != _WIDTH:
        return ascii(clear).encode("ascii")
    return ascii(clear[:-1]).encode("ascii") + _as_bytes(clear[-1])  # the sum


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else ascii(value).encode("ascii")


def _columns(clear: Clear, labels: str) -> Columns:
    (node_id, sequence, score, admission, cordoned, until, left) = clear[:7]
    (cores, memory, storage, gpu, host, every, gpus) = clear[7:_OLD_WIDTH]
    return Columns(
        node_id, sequence, score, admission, cordoned == 1, until, left == 1, cores, memory, storage, gpu == 1, host,
        every, gpus, labels,
    )  # fmt: skip


def _columns_checksum(bound: bytes, place: object, labels: object) -> int:
    if isinstance(labels, str):
        labels = b"text" + labels.encode("utf-8")
    raw = labels if isinstance(labels, bytes) else b""
    return zlib.crc32(raw, zlib.crc32(ascii(place).encode("ascii"), zlib.crc32(bound)))


def _record_checksum(node_id: str, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(str(node_id).encode("utf-8")))


def _sample(gauges: tuple[Any, ...]) -> Optional[NodeHealth]:
    """A saved sample, or None. An impossible sample is ignored without an error: the next one replaces it."""
    load, memory, disk, at = gauges
    if load is None and memory is None and disk is None and at is None:
        return None
    for gauge, most in ((load, 1e6), (memory, 100.0), (disk, 100.0)):
        if gauge is not None and not (isinstance(gauge, float) and 0 <= gauge <= most):
            return None
    if at is not None and not (isinstance(at, float) and 0 <= at < 253402300800.0):
        return None
    seen = None if at is None else datetime.fromtimestamp(at, timezone.utc)
    return health_sample(load, memory, disk, seen, _UNKNOWN)


_UNKNOWN = Conditions()
