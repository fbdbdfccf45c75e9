"""The SQLite file of tokens, and of which node used which join token.

Not here: the permissions of a role (`roles`), nodes (`NodeRegistry`). Several processes may use the file at once:
`duxnet token` works beside a running coordinator. Only the hashes of secrets are stored. Reads have their own
connection and do not wait for a commit. The file is opened like a registry's: a damaged log is set aside, each row has
a checksum, and an older layout is copied before it is upgraded.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.files.locks import locked_folder
from registry_core.identity.tokens import hashed_secret, new_secret
from registry_core.storage.sqlite.file_handles import UsedFile
from registry_core.storage.sqlite.open import (
    Kind,
    check_files,
    check_identity,
    connect,
    has_log,
    hold_names,
    make_database,
    settle_log,
    translated,
    wal_of,
)
from registry_core.storage.sqlite.upgrade import run_statements, upgrade_file

__all__ = ["ROLES", "RemovedBefore", "TokenRow", "TokenStore"]

_log = logging.getLogger("duxnet.coordinator")

COORDINATOR_DB = "coordinator.db"
ROLES = ("join", "reader", "rater", "operator")
KIND = Kind(application_id=0x44555843, layout=2, supported="layouts 1 and 2 of coordinator.db", unmarked=1)

_TABLES = """
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL, label TEXT NOT NULL,
  wallet TEXT NOT NULL, created REAL NOT NULL, expires REAL, uses INTEGER, revoked REAL,
  checksum INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE joins (
  token INTEGER NOT NULL REFERENCES tokens(id), node_id TEXT NOT NULL, at REAL NOT NULL,
  checksum INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (token, node_id)
) WITHOUT ROWID;
"""
_UPGRADE = """
ALTER TABLE tokens ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE joins ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
"""


@dataclass(frozen=True)
class TokenRow:
    """One stored token. Times are Unix seconds; `uses` is the maximum number of nodes that may join, None: no limit."""

    id: int
    role: str
    label: str
    wallet: str
    created: float
    expires: Optional[float]
    uses: Optional[int]
    used: int
    revoked: Optional[float]

    def is_valid(self, now: float) -> bool:
        """Is it neither revoked nor expired?"""
        return self.revoked is None and (self.expires is None or now < self.expires)


class RemovedBefore(NamedTuple):
    """What layout 1 stored here about a removed node: its last generation, the reason of its ban, its newest key.

    `links` is how often its key was replaced. None means unknown; `ban` is empty without a ban.
    """

    node_id: str
    at: float
    generation: Optional[int]
    ban: Optional[str]
    links: Optional[int]
    key: Optional[str]


class TokenStore:
    """The open file. Thread-safe. Raises StoreError, DamagedStoreError, UnsupportedSchemaError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._location = str(path)
        self._lock = threading.RLock()
        self._reading_lock = threading.Lock()
        self._batch_thread: Optional[int] = None
        self._marks = 0
        with self._translated("opened"), locked_folder(path.parent):  # one process at a time creates or upgrades it
            check_files(path, owned=True)
            if not path.exists():
                if has_log(path):
                    raise DamagedStoreError(
                        self._location, f"its log {wal_of(path).name} exists, but the file does not"
                    )
                make_database(path, KIND, _TABLES)
            hold_names(path)
            self._used: Optional[UsedFile] = UsedFile(path)
            try:
                self._open()
            except BaseException:
                self._used.end()
                raise

    def _open(self) -> None:
        check_identity(self._path, KIND)
        log = settle_log(self._path, alone=False)
        if log.has_damaged_tail:
            _log.warning("%s: %s; the tokens are those of the last whole commit", self._path, log.tail_text())
        upgrade_file(self._path, _upgrade, kind=KIND)
        self._db = connect(self._path, read_only=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            check_rows(self._location, self._db)
            self._reader = connect(self._path, read_only=True)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file. It may be called twice."""
        with self._lock, self._reading_lock:
            self._reader.close()
            self._db.close()
            used, self._used = self._used, None
            if used is not None:
                used.end()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """A context whose changes, by this thread, are one commit. Without a change the file is not touched."""
        with self._lock, self._translated("written"):
            self._batch_thread = threading.get_ident()
            self._marks = 0
            try:
                yield
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
            finally:
                self._batch_thread = None
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def mark(self) -> int:
        """Returns the position in the current batch, for `back_to`; 0 before its first change."""
        if not self._db.in_transaction:
            return 0
        self._marks += 1
        self._db.execute(f"SAVEPOINT mark{self._marks}")
        return self._marks

    def back_to(self, mark: int) -> None:
        """Undo what changed since the mark; the rest of the batch continues."""
        if self._db.in_transaction:
            self._db.execute(f"ROLLBACK TO mark{mark}" if mark else "ROLLBACK")

    def create(
        self,
        role: str,
        now: float,
        *,
        label: str = "",
        wallet: str = "",
        lifetime_seconds: Optional[float] = None,
        uses: Optional[int] = None,
    ) -> tuple[TokenRow, str]:
        """Creates a token. Returns it and its secret, which cannot be read later."""
        if role not in ROLES:
            raise ValidationError("role", role, f"must be one of {', '.join(ROLES)}")
        secret = new_secret(f"dux_{role}")
        expires = None if lifetime_seconds is None else now + lifetime_seconds
        with self._change() as db:
            values = (hashed_secret(secret), role, label, wallet, float(now), _seconds(expires), uses, None)
            cursor = db.execute(_INSERT, (*values, _checksum(values)))
            number = int(cursor.lastrowid or 0)
        return TokenRow(number, role, label, wallet, now, expires, uses, 0, None), secret

    def tokens(self) -> list[TokenRow]:
        """All tokens, the oldest first."""
        with self._reading() as db:
            return [self._token(row) for row in db.execute(f"{_SELECT} ORDER BY t.id").fetchall()]

    def _token(self, row: tuple[Any, ...]) -> TokenRow:
        return _token(self._location, row)

    def revoke(self, number: int, now: float) -> bool:
        """Revoke a token. Returns False if it does not exist or is revoked already."""
        with self._change() as db:
            row = db.execute(f"{_SELECT} WHERE t.id = ?", (number,)).fetchone()
            if row is None or self._token(row).revoked is not None:
                return False
            values = (*row[2:-2], float(now))
            db.execute("UPDATE tokens SET revoked = ?, checksum = ? WHERE id = ?", (now, _checksum(values), number))
        return True

    def find(self, secret: str) -> Optional[TokenRow]:
        """Returns the token with this secret, valid or not, or None."""
        with self._reading() as db:
            row = db.execute(f"{_SELECT} WHERE t.hash = ?", (hashed_secret(secret),)).fetchone()
            return None if row is None else self._token(row)

    def join(self, secret: str, node_id: str, now: float) -> bool:
        """Use a join token for this node, durably. Returns True if it may join or has joined with this token before."""
        with self._change() as db:
            row = db.execute(f"{_SELECT} WHERE t.hash = ?", (hashed_secret(secret),)).fetchone()
            token = None if row is None else self._token(row)
            if token is None or token.role != "join":
                return False
            joined = db.execute(f"{_JOINS} WHERE token = ? AND node_id = ?", (token.id, node_id)).fetchone()
            if joined is not None:
                _checked(self._location, joined, f"that node {node_id!a} joined by token {token.id}")
                return token.revoked is None
            if not token.is_valid(now) or (token.uses is not None and token.used >= token.uses):
                return False
            values = (token.id, node_id, float(now))
            db.execute("INSERT INTO joins VALUES (?, ?, ?, ?)", (*values, _checksum(values)))
        return True

    def removed_before(self) -> list[RemovedBefore]:
        """What layout 1 stored here about removed nodes; the registry stores it now."""
        with self._reading() as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'gone'").fetchone() is None:
                return []
            return [RemovedBefore(*row) for row in db.execute(_REMOVED_BEFORE)]

    def forget_removed(self) -> None:
        """Delete what `removed_before` returned, once the registry has stored it."""
        with self._change() as db:
            db.execute("DROP TABLE IF EXISTS gone")
            db.execute("DROP TABLE IF EXISTS gone_keys")

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated("written"):
            if self._batch_thread is not None:  # ours: the lock keeps other threads out
                if not self._db.in_transaction:
                    self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading. A thread with an open batch sees the batch's changes."""
        if self._batch_thread == threading.get_ident():
            with self._translated("read"):
                yield self._db
            return
        with self._reading_lock, self._translated("read"):
            yield self._reader

    def _translated(self, doing: str) -> translated:
        return translated(self._location, doing)


def check_rows(location: str, db: sqlite3.Connection) -> None:
    """Raises DamagedStoreError for the first record that does not match its checksum."""
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DamagedStoreError(location, f"SQLite reports damage ({ascii(found)[1:-1]})")
    for row in db.execute(_SELECT):
        _token(location, row)
    for row in db.execute(_JOINS):
        _checked(location, row, f"that node {row[1]!a} joined by token {row[0]!a}")


def _token(location: str, row: tuple[Any, ...]) -> TokenRow:
    number, used, *kept = row
    _hash, role, label, wallet, created, expires, uses, revoked = _checked(
        location, tuple(kept), f"of token {number!a}"
    )
    return TokenRow(number, role, label, wallet, created, expires, uses, used, revoked)


def _checked(location: str, row: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    """Returns the row without its last value, the checksum. Raises DamagedStoreError if that is wrong."""
    if row[-1] != _checksum(row[:-1]):
        raise DamagedStoreError(location, f"the record {what} does not match its checksum")
    return row[:-1]


def _upgrade(db: sqlite3.Connection, _found: int) -> None:
    run_statements(db, _UPGRADE)
    for number, _used, *kept, _none in db.execute(_SELECT).fetchall():
        db.execute("UPDATE tokens SET checksum = ? WHERE id = ?", (_checksum(tuple(kept)), number))
    for token, node_id, at, _none in db.execute(_JOINS).fetchall():
        values = (_checksum((token, node_id, at)), token, node_id)
        db.execute("UPDATE joins SET checksum = ? WHERE token = ? AND node_id = ?", values)


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(ascii(values).encode("ascii"))


def _seconds(value: Optional[float]) -> Optional[float]:
    return None if value is None else float(value)


_INSERT = """
INSERT INTO tokens (hash, role, label, wallet, created, expires, uses, revoked, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT = (
    "SELECT t.id, (SELECT count(*) FROM joins WHERE token = t.id), "
    "t.hash, t.role, t.label, t.wallet, t.created, t.expires, t.uses, t.revoked, t.checksum FROM tokens t"
)
_JOINS = "SELECT token, node_id, at, checksum FROM joins"
_REMOVED_BEFORE = """
SELECT g.node_id, g.at, g.generation, g.ban, k.links, k.key FROM gone g LEFT JOIN gone_keys k USING (node_id)
UNION ALL
SELECT k.node_id, k.at, NULL, NULL, k.links, k.key FROM gone_keys k WHERE k.node_id NOT IN (SELECT node_id FROM gone)
"""
