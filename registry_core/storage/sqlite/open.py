"""Opens a registry in SQLite: checks the file's kind, its state and the keys; and makes a new one atomically.

Nothing is written before every check has passed: the checks use a read-only connection, since closing any other one
would already write the log into the file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional
from urllib.parse import quote

from registry_core.errors import DamagedStoreError, SealedStoreError, StoreError, UnsupportedSchemaError, reason_of
from registry_core.files.atomic import appearing, replace_file
from registry_core.files.opening import Folder, check_kind, read_regular
from registry_core.storage.sealing import CannotOpen, KeyRing, Sealer, SealingKey
from registry_core.storage.sqlite import rows as layout
from registry_core.storage.sqlite.file_handles import read_head
from registry_core.storage.sqlite.rows import LAST_COMMIT
from registry_core.storage.sqlite.wal import WalReport, scan_wal
from registry_core.storage.state_sum import SUM_KEY_BYTES, StateSum, SumKey

__all__ = [
    "REGISTRY",
    "FileState",
    "Kind",
    "check_files",
    "check_identity",
    "choose_sum_key",
    "connect",
    "make_database",
    "make_new",
    "new_label_key",
    "open_checked",
    "read_state",
    "sealer_for",
    "settle_log",
    "settled_scan",
    "sum_key_of",
    "sum_state",
    "translated",
    "wal_of",
]

_log = logging.getLogger("registry_core.storage")

_MAGIC = b"SQLite format 3\x00"
_MINOR = int(layout.SCHEMA.rpartition(".")[2])
_SCHEMA_FORM = re.compile(r"duxnet\.nodes/([0-9]{1,9})\.([0-9]{1,9})\Z")
_SUPPORTED = "duxnet.nodes/1.x"
ROLLED_BACK = "rolled_back"  # a key in `state`
LABEL_KEY_BYTES = 16
KEY_CHECK = "key_check:"  # before the id of a key
_LOG_SCANS = 4
_BETWEEN_SCANS_SECONDS = 0.05
_SIGNS_OF_DAMAGE = ("malformed", "not a database", "decode", "no such", "unsupported file format", "datatype mismatch")

WRITER_CACHE_KIB = 32 * 1024  # of SQLite's pages; more makes large batches faster, and is resident memory
READER_CACHE_KIB = 1024


class FileState(NamedTuple):
    """The content of the table `state`. `newer`: a later minor version wrote the file, so unknown fields are kept."""

    schema: str
    store_id: bytes
    sealed_with: tuple[bytes, ...]
    last_commit: layout.Stamp
    newer: bool
    values: Mapping[str, Any]
    sum: Optional[StateSum] = None


class Kind(NamedTuple):
    """A kind of database of this project: its application id, its newest layout, and the supported schema for messages.

    `unmarked` is the newest layout whose files have no application id.
    """

    application_id: int
    layout: int
    supported: str
    unmarked: int = 0


REGISTRY = Kind(layout.APPLICATION_ID, layout.LAYOUT, _SUPPORTED)


class translated:  # noqa: N801 - read as a verb: `with translated(…)`
    """Turns errors of sqlite3 and the operating system into ours, which name the file. A class, for speed."""

    def __init__(self, location: str, doing: str) -> None:
        self._location = location
        self._doing = doing

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, _kind: object, error: Optional[BaseException], _traceback: object) -> None:
        if error is not None:
            ours = self._ours(error)
            if ours is not None:
                raise ours from (None if isinstance(error, layout.BadRow) else error)

    def _ours(self, error: BaseException) -> Optional[StoreError]:
        if isinstance(error, sqlite3.Error):
            text = ascii(str(error))[1:-1]  # it may quote the damaged file
            if any(sign in text for sign in _SIGNS_OF_DAMAGE):
                return DamagedStoreError(self._location, f"SQLite reports damage ({text})")
            return StoreError(self._location, f"cannot be {self._doing}: {text}")
        if isinstance(error, UnicodeDecodeError):  # from SQLite's message, when it quotes a damaged name
            return DamagedStoreError(self._location, "SQLite reports damaged tables")
        if isinstance(error, layout.BadRow):
            return DamagedStoreError(self._location, str(error), error.node_id)
        if isinstance(error, OSError):
            return StoreError(self._location, f"cannot be {self._doing}: {reason_of(error)}")
        return None


def connect(
    path: Path, *, read_only: bool, cache_kib: int = READER_CACHE_KIB, unchanging: bool = False
) -> sqlite3.Connection:
    """A connection that begins no transaction by itself. `read_only` never writes to the file or its log.

    `unchanging`: no process is writing to the file. Without a log the file is then opened as immutable: otherwise
    SQLite makes a log and its index even to read, which fails in a folder that cannot be written.
    """
    mode = "ro" if read_only else "rw"
    address = f"file:{quote(str(path))}?mode={mode}"
    if unchanging:
        is_immutable = not has_log(path)
    else:  # a running writer has a log, even if it is empty
        is_immutable = not wal_of(path).exists() and not os.access(path.parent, os.W_OK)
    if read_only and is_immutable:
        address += "&immutable=1"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        _configure(connection, cache_kib, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, cache_kib: int, *, read_only: bool) -> None:
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute("PRAGMA temp_store = MEMORY")  # records never get into temporary files
    connection.execute("PRAGMA trusted_schema = OFF")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
        return
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # on macOS a plain fsync leaves data in the drive's cache
    # A checkpoint at 16 MiB of log: batches change the same pages of the index repeatedly
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 67108864")


def wal_of(path: Path) -> Path:
    """SQLite's write-ahead log of the database at `path`."""
    return path.with_name(path.name + "-wal")


def has_log(path: Path) -> bool:
    """Whether the log of the database at `path` holds anything."""
    try:
        return wal_of(path).stat().st_size > 0
    except FileNotFoundError:
        return False


def make_new(path: Path, ring: Optional[KeyRing], sum_key: Optional[SumKey] = None) -> None:
    """Make an empty registry at `path` atomically. The caller holds its lock. Raises StoreError."""
    store_id = os.urandom(16)
    used = [] if ring is None else [ring.newest]

    def fill(connection: sqlite3.Connection) -> None:
        state: list[tuple[str, object]] = [("schema", layout.SCHEMA), ("store_id", store_id)]
        state += [(LAST_COMMIT, layout.Stamp().to_text()), *key_state(used, store_id)]
        rows = layout.Rows(None if ring is None else Sealer(KeyRing(used), store_id))
        state += [*choose_sum_key(rows, sum_key), sum_state(rows, 0, 0), new_label_key(rows)]
        connection.executemany(layout.PUT_STATE, state)

    make_database(path, REGISTRY, layout.CREATE, fill)


def make_database(
    path: Path, kind: Kind, create: str, fill: Callable[[sqlite3.Connection], None] = lambda _connection: None
) -> None:
    """Make an empty database of this `kind` at `path` atomically. Raises StoreError."""
    new = appearing(path, overwrite=False, alone=True)
    with translated(str(path), "made"), new as place, closing(connect(place, read_only=False)) as connection:
        connection.execute(f"PRAGMA application_id = {kind.application_id}")
        connection.execute(f"PRAGMA user_version = {kind.layout}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript("BEGIN;" + create)
        fill(connection)
        connection.execute("COMMIT")


def choose_sum_key(rows: layout.Rows, given: Optional[SumKey]) -> list[tuple[str, object]]:
    """Let `rows` write with the key given, or with a new one; returns the rows of `state` that store a new one."""
    if given is not None:
        rows.sums = given
        return []
    own = os.urandom(SUM_KEY_BYTES)
    rows.sums = SumKey(own)
    return [(layout.META + layout.SUM_KEY, rows.sealed_meta(layout.SUM_KEY, own.hex()))]


def new_label_key(rows: layout.Rows) -> tuple[str, object]:
    """A new key for the hashes of labels, as a row of `state`."""
    return layout.META + layout.LABEL_KEY, rows.sealed_meta(layout.LABEL_KEY, os.urandom(LABEL_KEY_BYTES).hex())


def sum_state(rows: layout.Rows, total: int, commit: int) -> tuple[str, object]:
    """The sum after this commit, as a row of `state`."""
    assert rows.sums is not None
    return layout.STATE_SUM, StateSum.of(rows.sums, total, commit).to_text()


def sum_key_of(state: FileState, rows: layout.Rows, given: Optional[SumKey] = None) -> Optional[SumKey]:
    """The key that made the sums of a store; None if it is not available. Raises BadRow for a damaged one."""
    if state.sum is None:
        return None
    if given is not None and given.id == state.sum.key_id:
        return given
    kept = state.values.get(layout.META + layout.SUM_KEY)
    if kept is None:
        return None
    try:
        own = SumKey(bytes.fromhex(rows.opened_meta(layout.SUM_KEY, kept)))
    except ValueError:
        own = None
    if own is None or own.id != state.sum.key_id:
        raise layout.BadRow(None, None, f"of the registry as a whole ({layout.SUM_KEY}) is damaged")
    return own


def key_state(used: Sequence[SealingKey], store_id: bytes) -> list[tuple[str, object]]:
    """The rows of `state` about the keys in use: the id of each, and a sealed value with which it can be checked."""
    checks = []
    for key in used:
        sealed = Sealer(KeyRing([key]), store_id).seal(b"", KEY_CHECK.encode("ascii"))
        checks.append((KEY_CHECK + key.id.hex(), sealed))
    return [("sealed_with", json.dumps([key.id.hex() for key in used])), *checks]


def check_files(path: Path, *, owned: bool) -> None:
    """Check the database and the files that SQLite opens beside it. Raises StoreError, OSError.

    `owned`: they must be files in a checked folder; otherwise they only must be regular files. No file is opened:
    closing a handle on a database in use would release the locks of this process.
    """
    names = [path.name + ending for ending in ("", "-wal", "-shm", "-journal")]
    if owned:
        with Folder(path.parent) as folder:
            for name in names:
                folder.look(name)
        return
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            check_kind(path.with_name(name))


def hold_names(path: Path) -> None:
    """In a folder where others may make files, make empty logs and journals, so that no other user can make them.

    SQLite would trust theirs. It reads an empty log as one without commits, and ignores an empty journal. Raises
    StoreError.
    """
    with translated(str(path), "opened"), Folder(path.parent) as folder:
        if folder.is_shared():
            for ending in ("-wal", "-shm", "-journal"):
                folder.hold(path.name + ending)


def check_identity(path: Path, kind: Kind = REGISTRY) -> int:
    """Check the head of the file, without SQLite; returns its layout.

    Raises DamagedStoreError, UnsupportedSchemaError, StoreError.
    """
    location = str(path)
    with translated(location, "read"):
        head = read_head(path, 100)
        size = path.stat().st_size
        log_is_empty = not has_log(path)
    if len(head) < 100 or head[:16] != _MAGIC:
        what = "it is empty" if not head else "it is not an SQLite database, or its header is damaged"
        raise DamagedStoreError(location, what)
    layout_version, application_id = struct.unpack(">I4xI", head[60:72])
    if application_id != kind.application_id and not (application_id == 0 and 0 < layout_version <= kind.unmarked):
        raise UnsupportedSchemaError(location, f"application id {application_id:#x} of another program", kind.supported)
    if layout_version > kind.layout:
        raise UnsupportedSchemaError(location, f"SQLite layout {layout_version} of a newer version", kind.supported)
    page_bytes, pages = struct.unpack(">H", head[16:18])[0], struct.unpack(">I", head[28:32])[0]
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if log_is_empty and size < pages * page_bytes:  # with a log, the header may be newer than the file
        raise DamagedStoreError(location, f"it was cut off: {size} bytes of {pages * page_bytes}")
    return int(layout_version)


def open_checked(path: Path, *, alone: bool) -> FileState:
    """Make every check that needs no key, over a read-only connection. Raises what `check_identity` raises.

    `alone`: the caller holds the writer's lock, so no other process is changing the file.
    """
    location = str(path)
    check_identity(path)
    with translated(location, "read"), closing(connect(path, read_only=True, unchanging=alone)) as connection:
        return read_state(location, connection)


def read_state(location: str, connection: sqlite3.Connection) -> FileState:
    """The table `state`, checked. Raises DamagedStoreError and UnsupportedSchemaError."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()  # first: a writer may upgrade it meanwhile
    values = dict(connection.execute("SELECT key, value FROM state"))
    schema, store_id = str(values.get("schema")), values.get("store_id")
    form = _SCHEMA_FORM.match(schema)
    if form is None or form.group(1) != "1":
        raise UnsupportedSchemaError(location, schema, _SUPPORTED)
    try:
        if not isinstance(store_id, bytes):
            raise ValueError("store_id")
        sealed_with = tuple(bytes.fromhex(key_id) for key_id in json.loads(str(values.get("sealed_with"))))
        last_commit = layout.Stamp.of_text(values.get(LAST_COMMIT))
        state_sum = None if found < layout.RECORDS_APART else StateSum.of_text(values.get(layout.STATE_SUM))
    except (ValueError, TypeError):
        raise DamagedStoreError(location, "its table `state` is damaged") from None
    return FileState(schema, store_id, sealed_with, last_commit, int(form.group(2)) > _MINOR, values, state_sum)


def settled_scan(path: Path) -> WalReport:
    """The log's state. A running writer looks like damage for an instant, so damage is checked repeatedly."""
    with translated(str(path), "read"):
        report = scan_wal(wal_of(path))
        for _scan in range(_LOG_SCANS - 1):
            if not report.has_damaged_tail:
                break
            time.sleep(_BETWEEN_SCANS_SECONDS)
            report = scan_wal(wal_of(path))
    return report


def settle_log(path: Path, *, alone: bool = True) -> WalReport:
    """Scan the log before SQLite silently skips a damaged tail, and keep a copy of it when commits were lost.

    `alone`: no other process can be writing to it.
    """
    log = wal_of(path)
    with translated(str(path), "read"):
        report = scan_wal(log) if alone else settled_scan(path)
        if report.commits_surely_lost or report.header_damaged:
            moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
            copy = log.with_name(f"{log.name}.damaged-{moment}")
            replace_file(copy, read_regular(log))
            _log.error("%s: the write-ahead log is damaged; it was kept as %s", path, copy.name)
    return report


def sealer_for(location: str, state: FileState, ring: Optional[KeyRing]) -> Optional[Sealer]:
    """The sealer for the store, or None for a store in clear. Raises SealedStoreError for missing or wrong keys."""
    if ring is None:
        if state.sealed_with:
            raise SealedStoreError(location, "it is sealed; give its encryption key")
        return None
    if not state.sealed_with:
        raise SealedStoreError(
            location, "it is not sealed, but an encryption key was given; seal it with `duxnet registry migrate`"
        )
    missing = [key_id.hex() for key_id in state.sealed_with if ring.get(key_id) is None]
    if missing:
        given = ", ".join(key.id.hex() for key in ring.keys)
        raise SealedStoreError(location, f"it is sealed with key {', '.join(missing)}; the keys given are {given}")
    sealer = Sealer(ring, state.store_id)
    for key_id in state.sealed_with:
        check = state.values.get(KEY_CHECK + key_id.hex())
        try:
            if not isinstance(check, bytes) or sealer.open(check, KEY_CHECK.encode("ascii")) != b"":
                raise CannotOpen("it is missing")
        except CannotOpen as error:
            raise SealedStoreError(location, f"the check of key {key_id.hex()} fails: {error}") from None
    return sealer
