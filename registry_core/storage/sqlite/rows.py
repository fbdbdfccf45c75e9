"""How a registry lies in a SQLite file: tables, columns, checksums, and what is bound to what by the seal.

Here: SQL text and the way between records and rows. Not here: connections, files, threads (`sqlite`,
`open`). Everything that a start reads is in columns of their own, so that it decodes no record.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Callable, NamedTuple, Optional, Union

from registry_core.models.columns import Columns, columns_of
from registry_core.models.record import NodeRecord
from registry_core.models.status import Conditions, NodeHealth, Sampled
from registry_core.models.times import time_to_text
from registry_core.models.trusted import health_sample
from registry_core.storage.packed_records import pack, unpack
from registry_core.storage.record_codec import is_read_back
from registry_core.storage.sealing import CannotOpen, Sealer
from registry_core.storage.store import Put, Row

__all__ = ["APPLICATION_ID", "LAYOUT", "SCHEMA", "BadRow", "Rows", "id_hash"]

APPLICATION_ID = 0x44555852  # "DUXR", at byte 68 of the file, where file(1) and SQLite tools look
LAYOUT = 3  # PRAGMA user_version: the tables below. The meaning of the records has its own version, in `state`
RECORDS_APART = 3
"""From this layout on what a node sent and what the registry knows are apart; records before are judged one by one."""
SCHEMA = "duxnet.nodes/1.1"

_CLEAR = (
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
_BESIDE = (
    ("id_hash", "INTEGER NOT NULL UNIQUE"),
    ("labels", "NOT NULL"),  # wallet and tags: text, or sealed
    ("columns_checksum", "INTEGER NOT NULL"),
    ("record_checksum", "INTEGER NOT NULL"),
    ("record", "BLOB NOT NULL"),  # last: a start reads the columns before it and leaves it alone
)
_ALL = (*_CLEAR, *_BESIDE)
_WIDTH = len(_CLEAR)
_NAMES = [name for name, _kind in _ALL]
_CLEAR_NAMES = ", ".join(f"nodes.{name}" for name, _kind in _CLEAR)

CREATE = f"""
CREATE TABLE state (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE nodes ({", ".join(f"{name} {kind}" for name, kind in _ALL)});
CREATE TABLE samples (
  sequence INTEGER PRIMARY KEY, load_average REAL, memory_usage REAL, disk_usage REAL, last_heartbeat REAL,
  is_down INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER forget_sample AFTER DELETE ON nodes BEGIN
  DELETE FROM samples WHERE sequence = old.sequence;
END;
"""  # noqa: S608 - the names above, nobody's input

PUT = f"""
INSERT INTO nodes ({", ".join(_NAMES)}) VALUES ({", ".join("?" * len(_ALL))})
ON CONFLICT (id_hash) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in ("id", "sequence", "id_hash"))}
WHERE id = excluded.id AND sequence = excluded.sequence
"""  # noqa: S608 - the names above, nobody's input
FIND = "SELECT sequence FROM nodes WHERE id_hash = ? AND id = ?"
DELETE = "DELETE FROM nodes WHERE id_hash = ? AND id = ?"
PUT_SAMPLE = "INSERT OR REPLACE INTO samples SELECT sequence, ?, ?, ?, ?, ? FROM nodes WHERE id_hash = ? AND id = ?"
MOVE_SAMPLE = "UPDATE samples SET sequence = ? WHERE sequence = ?"
START = f"""
SELECT {_CLEAR_NAMES}, labels, columns_checksum, id_hash,
  load_average, memory_usage, disk_usage, last_heartbeat, is_down
FROM nodes LEFT JOIN samples USING (sequence) ORDER BY nodes.sequence
"""  # noqa: S608 - the names above
START_OF_LAYOUT_1 = START.replace("is_down", "0")  # what only a reader ever sees: a writer brings the file up first
# The same sums over the index alone: an entry that was changed would make a node vanish for those who ask by id.
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
META = "registry:"  # before the keys of `meta` in the table `state`
ALL_META = "SELECT key, value FROM state WHERE key GLOB 'registry:*'"
PUT_STATE = "INSERT OR REPLACE INTO state VALUES (?, ?)"
ONE_STATE = "SELECT value FROM state WHERE key = ?"
DELETE_STATE = "DELETE FROM state WHERE key = ?"

Clear = tuple[Any, ...]
Labels = Union[str, bytes]


class BadRow(Exception):  # noqa: N818 - the store turns it into a DamagedStoreError with its path
    """This row is not what was written. Its text names the record and what is wrong with it."""

    def __init__(self, node_id: object, sequence: object, what: str) -> None:
        self.node_id = node_id if isinstance(node_id, str) else None
        name = f"the record of node {str(node_id)[:128]!a}" if node_id is not None else "a record"
        super().__init__(f"{name} (number {sequence}) is damaged: {what}" if sequence is not None else f"{name} {what}")


class Stamp(NamedTuple):
    """A commit: its number, and the wall-clock time in Unix milliseconds (for people; nothing is decided by it)."""

    number: int = 0
    at_ms: int = 0

    @classmethod
    def of_text(cls, text: object) -> Stamp:
        """What `to_text` wrote. Raises ValueError."""
        number, at_ms = str(text).split(" ")
        return cls(int(number), int(at_ms))

    def to_text(self) -> str:
        """As `state` keeps it."""
        return f"{self.number} {self.at_ms}"

    def time_text(self) -> str:
        """The time as people read it."""
        if self.at_ms <= 0:
            return "no time (nothing was committed yet)"
        return str(time_to_text(datetime.fromtimestamp(self.at_ms / 1000, timezone.utc)))


def id_hash(node_id: str) -> int:
    """64 bits of the id for the index: a third of the size of one over the texts, and twice as fast to fill."""
    return int.from_bytes(
        hashlib.blake2b(node_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


class IndexTally:
    """Adds up over the rows of `START` what `INDEX_SUMS` adds up over the index."""

    def __init__(self) -> None:
        self._count = self._low = self._high = self._sequences = 0

    def add_started(self, row: tuple[Any, ...]) -> None:
        """One row of `START`, after it was checked."""
        self.add(row[_WIDTH + 2], row[1])

    def add_whole(self, row: tuple[Any, ...]) -> None:
        """One row of `EVERYTHING`, after it was checked."""
        self.add(row[_WIDTH], row[1])

    def add(self, place: int, sequence: int) -> None:
        """One row."""
        self._count += 1
        self._low += place & 0xFFFFFFFF
        self._high += place >> 32
        self._sequences += sequence

    def compare(self, sums: tuple[int, ...]) -> None:
        """Raises BadRow when the index does not hold exactly the rows of the table."""
        if sums != (self._count, self._low, self._high, self._sequences):
            raise BadRow(None, None, f"is missing: the table has {self._count} nodes, its index other ones ({sums[0]})")


class Rows:
    """The way between records and rows, in clear or sealed. Raises BadRow for a row that is not as written."""

    def __init__(
        self,
        sealer: Optional[Sealer],
        *,
        newer: bool = False,
        older: bool = False,
        dropped: Callable[[str, Sequence[str]], None] = lambda _node_id, _what: None,
    ) -> None:
        """`older`: the file is of layout 1 or 2; `dropped` is called with what of a record there is not believed."""
        self._sealer = sealer
        self._newer = newer
        self.older = older
        self._dropped = dropped
        self.read_sql = READ_PLAIN if sealer is None else READ_SEALED
        self.read_one_sql = self.read_sql.format("?")
        self.read_at_sql = self.read_sql.partition(" WHERE ")[0] + " WHERE sequence = ?"

    def for_put(self, put: Put) -> tuple[Any, ...]:
        """The values of `PUT`. Raises BadRow for a record that would not be read back as it is."""
        columns = put.columns
        clear = _clear(columns)
        bound = _bound(clear)
        labels: Labels = columns.labels
        record = self._packed(put.record)
        if self._sealer is not None:
            labels = self._sealer.seal(columns.labels.encode("utf-8"), b"labels" + bound)
            record = self._sealer.seal(record, b"record" + bound)
        place = id_hash(columns.node_id)
        checksums = (_columns_checksum(bound, place, labels), _record_checksum(columns.node_id, record))
        return (*clear, place, labels, *checksums, record)

    def started(self, row: tuple[Any, ...]) -> Row:
        """What `START` gives: columns and sample, checked."""
        clear, (labels, checksum, place) = row[:_WIDTH], row[_WIDTH : _WIDTH + 3]
        bound = _bound(clear)
        if _columns_checksum(bound, place, labels) != checksum:
            raise BadRow(clear[0], clear[1], "its columns do not match their checksum")
        if self._sealer is not None:
            labels = self._opened(clear, b"labels", bound, labels).decode("utf-8")
        return Row(_columns(clear, labels), _sample(row[_WIDTH + 3 : -1]), row[-1] == 1)

    def read(self, row: tuple[Any, ...]) -> NodeRecord:
        """What `read_sql` gives: the record, checked."""
        node_id, checksum, record = row[0], row[-2], row[-1]
        if not isinstance(record, bytes) or _record_checksum(node_id, record) != checksum:
            raise BadRow(node_id, None, "does not match its checksum")
        if self._sealer is not None:
            clear = row[:_WIDTH]
            record = self._opened(clear, b"record", _bound(clear), record)
        return self._unpacked(node_id, record)

    def check(self, row: tuple[Any, ...]) -> None:
        """Everything that can be checked of a row of `EVERYTHING`. Raises BadRow."""
        place, labels, columns_checksum = row[_WIDTH : _WIDTH + 3]
        check_sums(row)
        if place != id_hash(row[0]):
            raise BadRow(row[0], row[1], "its index entry belongs to another node")
        columns = self.started((*row[:_WIDTH], labels, columns_checksum, place, *(None,) * 5)).columns
        if columns_of(self.read(row)) != columns:
            raise BadRow(row[0], row[1], "its columns do not follow from its record")

    def rewrapped(self, row: tuple[Any, ...]) -> Optional[tuple[Any, ...]]:
        """The values of `REWRAP` that put a row of `EVERYTHING` under the newest key; None when it is."""
        clear, (place, labels, _columns_sum, _record_sum, record) = row[:_WIDTH], row[_WIDTH:]
        sealer = self._sealer
        if sealer is None or (sealer.is_newest(labels) and sealer.is_newest(record)):
            return None
        check_sums(row)
        bound = _bound(clear)
        labels = sealer.seal(self._opened(clear, b"labels", bound, labels), b"labels" + bound)
        record = sealer.seal(self._opened(clear, b"record", bound, record), b"record" + bound)
        return (labels, _columns_checksum(bound, place, labels), _record_checksum(clear[0], record), record, clear[1])

    def brought_up(self, row: tuple[Any, ...], newest: Rows) -> Optional[tuple[Any, ...]]:
        """The values of `PUT` for a row of `EVERYTHING` that an older layout arranged otherwise; None where it did not.

        Raises BadRow for a row that is not as written.
        """
        check_sums(row)
        clear = row[:_WIDTH]
        read = (*clear, *row[-2:]) if self._sealer is not None else (clear[0], *row[-2:])
        record = self.read(read)
        packed = self._opened(clear, b"record", _bound(clear), row[-1]) if self._sealer is not None else row[-1]
        try:
            if is_read_back(record, unpack(packed)):
                return None
        except ValueError:
            pass  # arranged as only an older layout does
        return newest.for_put(Put(record, columns_of(record)))

    def sealed_meta(self, key: str, value: str) -> Labels:
        """A text of the registry as a whole, as it is kept."""
        return (
            value if self._sealer is None else self._sealer.seal(value.encode("utf-8"), b"meta" + key.encode("utf-8"))
        )

    def opened_meta(self, key: str, kept: object) -> str:
        """The text that was kept under this key."""
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
            why = "what would be read back is another record"
        except (ValueError, ArithmeticError, TypeError) as error:
            why = str(error)
        raise BadRow(record.node.id, None, f"cannot be kept: {why}")

    def _opened(self, clear: Clear, what: bytes, bound: bytes, sealed: object) -> bytes:
        assert self._sealer is not None
        if not isinstance(sealed, bytes):
            raise BadRow(clear[0], clear[1], "it is not sealed, in a store that is")
        try:
            return self._sealer.open(sealed, what + bound)
        except CannotOpen as error:
            raise BadRow(clear[0], clear[1], str(error)) from None

    def _unpacked(self, node_id: str, record: bytes) -> NodeRecord:
        try:
            found = self._of_older_layout(node_id, record) if self.older else unpack(record, newer=self._newer)
        except ValueError as error:
            raise BadRow(node_id, None, f"cannot be understood: {error}") from None
        if found.node.id != node_id:
            raise BadRow(node_id, None, "belongs to another node")
        return found

    def _of_older_layout(self, node_id: str, record: bytes) -> NodeRecord:
        from registry_core.storage.older_records import unpack_older

        found, dropped = unpack_older(record, newer=self._newer)
        if dropped:
            self._dropped(node_id, dropped)
        return found


def check_sums(row: tuple[Any, ...]) -> None:
    """What can be checked of a row of `EVERYTHING` without a key. Raises BadRow."""
    clear, (place, labels, columns_checksum, record_checksum, record) = row[:_WIDTH], row[_WIDTH:]
    if _columns_checksum(_bound(clear), place, labels) != columns_checksum:
        raise BadRow(clear[0], clear[1], "its columns do not match their checksum")
    if not isinstance(record, bytes) or _record_checksum(clear[0], record) != record_checksum:
        raise BadRow(clear[0], clear[1], "its record does not match its checksum")


REWRAP = "UPDATE nodes SET labels = ?, columns_checksum = ?, record_checksum = ?, record = ? WHERE sequence = ?"


def sample_values(sample: Sampled) -> tuple[Optional[float], ...]:
    """The gauges, the time (Unix seconds) and 1 for down, as `samples` keeps them."""
    _node_id, health, is_down = sample
    at = health.last_heartbeat
    seen = None if at is None else at.timestamp()
    return health.load_average, health.memory_usage, health.disk_usage, seen, float(is_down)


def _clear(columns: Columns) -> Clear:
    """Exactly the values that SQLite will give back, so that checksum and seal find them again."""
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
    """The columns as bytes. `ascii`, not `repr`: what `repr` escapes changes with Python's Unicode tables."""
    return ascii(clear).encode("ascii")


def _columns(clear: Clear, labels: str) -> Columns:
    (node_id, sequence, score, admission, cordoned, until, left) = clear[:7]
    (cores, memory, storage, gpu, host, every, gpus) = clear[7:]
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
    """A saved sample, or None. Samples are soft: one that cannot be is forgotten, not reported."""
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
