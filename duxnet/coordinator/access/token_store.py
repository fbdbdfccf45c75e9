"""What the coordinator keeps beside the nodes: tokens, and which node used which join token. SQLite, durable.

Here: rows. Not here: what a role may do (`access`), nodes (`NodeRegistry`). Several processes may use it at once:
`duxnet token` works beside a running coordinator. Secrets are kept as their hashes only. Reading has a connection of
its own, so that nobody who reads waits for a commit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from registry_core.errors import DamagedStoreError, StoreError, UnsupportedSchemaError, ValidationError, reason_of
from registry_core.files.opening import Folder
from registry_core.identity.tokens import hashed_secret, new_secret

__all__ = ["ROLES", "Gone", "TokenStore", "TokenRow"]

COORDINATOR_DB = "coordinator.db"
ROLES = ("join", "reader", "rater", "operator")
_SCHEMA = 1

TOMBSTONE_SECONDS = 30 * 86_400.0
"""How long a removed node's generation is remembered. A replay dies with its signature, after minutes."""
_TABLES = """
CREATE TABLE IF NOT EXISTS tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL, label TEXT NOT NULL,
  wallet TEXT NOT NULL, created REAL NOT NULL, expires REAL, uses INTEGER, revoked REAL
);
CREATE TABLE IF NOT EXISTS joins (
  token INTEGER NOT NULL REFERENCES tokens(id), node_id TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (token, node_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (
  node_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, ban TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gone_at ON gone (at) WHERE ban = '';
CREATE TABLE IF NOT EXISTS gone_keys (
  node_id TEXT PRIMARY KEY, links INTEGER NOT NULL, key TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gone_keys_at ON gone_keys (at);
"""
MOST_GONE_KEYS = 100_000
"""Of so many removed nodes whose key was replaced, the last ones, the newest key is remembered: about 20 MB."""


@dataclass(frozen=True)
class TokenRow:
    """One token as it is kept. Times are Unix seconds; `uses` is how many nodes may join by it, None: any number."""

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
        """Neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class Gone(NamedTuple):
    """What a removed node left: its last generation, why it was banned, after how many replacements it had which key.

    None where nothing is known of it; `ban` is empty where it was not banned.
    """

    generation: Optional[int]
    ban: Optional[str]
    links: Optional[int]
    key: Optional[str]


class TokenStore:
    """The open file. Thread-safe. Raises StoreError, DamagedStoreError, UnsupportedSchemaError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._reading_lock = threading.Lock()
        self._batch_thread: Optional[int] = None
        self._marks = 0
        with self._translated():
            with Folder(path.parent) as folder:
                for ending in ("-wal", "-shm", "-journal"):
                    folder.look(path.name + ending)
                if folder.look(path.name) is None:  # SQLite would make it readable to others
                    os.close(folder.open(path.name, os.O_RDWR | os.O_CREAT))
            self._db = self._connected()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if found > _SCHEMA:
                raise UnsupportedSchemaError(str(path), str(found), str(_SCHEMA))
            self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_SCHEMA}; COMMIT;")
            self._reader = self._connected()

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        """Close the file. Closing twice is no error."""
        with self._lock, self._reading_lock:
            self._reader.close()
            self._db.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Changes of this thread inside are one commit, all or nothing. Without a change the file is not touched."""
        with self._lock, self._translated():
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
        """The place in the batch under way to which `back_to` can return. 0: it has changed nothing yet."""
        if not self._db.in_transaction:
            return 0
        self._marks += 1
        self._db.execute(f"SAVEPOINT mark{self._marks}")
        return self._marks

    def back_to(self, mark: int) -> None:
        """Take back what changed since the mark; the rest of the batch goes on."""
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
        """A new token and its secret, which is told here and never again."""
        if role not in ROLES:
            raise ValidationError("role", role, f"must be one of {', '.join(ROLES)}")
        secret = new_secret(f"dux_{role}")
        expires = None if lifetime_seconds is None else now + lifetime_seconds
        with self._change() as db:
            cursor = db.execute(
                "INSERT INTO tokens (hash, role, label, wallet, created, expires, uses) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (hashed_secret(secret), role, label, wallet, now, expires, uses),
            )
            number = int(cursor.lastrowid or 0)
        return TokenRow(number, role, label, wallet, now, expires, uses, 0, None), secret

    def tokens(self) -> list[TokenRow]:
        """Every token, the oldest first."""
        with self._reading() as db:
            return [TokenRow(*row) for row in db.execute(f"{_SELECT} GROUP BY t.id ORDER BY t.id")]

    def revoke(self, number: int, now: float) -> bool:
        """Make a token worthless; False when there is none that was valid."""
        with self._change() as db:
            return bool(
                db.execute("UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, number)).rowcount
            )

    def find(self, secret: str) -> Optional[TokenRow]:
        """The token with this secret, valid or not."""
        with self._reading() as db:
            row = db.execute(f"{_SELECT} WHERE t.hash = ? GROUP BY t.id", (hashed_secret(secret),)).fetchone()
        return TokenRow(*row) if row is not None else None

    def join(self, secret: str, node_id: str, now: float) -> bool:
        """Use a join token for this node, durably. True when it may join, also when it did before by this token."""
        with self._change() as db:
            row = db.execute(f"{_SELECT} WHERE t.hash = ? GROUP BY t.id", (hashed_secret(secret),)).fetchone()
            token = TokenRow(*row) if row is not None else None
            if token is None or token.role != "join":
                return False
            if db.execute("SELECT 1 FROM joins WHERE token = ? AND node_id = ?", (token.id, node_id)).fetchone():
                return token.revoked is None
            if not token.is_valid(now) or (token.uses is not None and token.used >= token.uses):
                return False
            db.execute("INSERT INTO joins (token, node_id, at) VALUES (?, ?, ?)", (token.id, node_id, now))
        return True

    def bury(self, node_id: str, generation: int, ban: str, now: float) -> None:
        """Remember of a node that is removed what a later registration must be judged by. Bounded: the oldest go.

        `ban` is why it was banned, or empty; bans are kept for good.
        """
        with self._change() as db:
            db.execute(
                "INSERT INTO gone VALUES (?, ?, ?, ?) ON CONFLICT (node_id) DO UPDATE SET "
                "generation = max(generation, excluded.generation), ban = excluded.ban, at = excluded.at",
                (node_id, generation, ban, now),
            )
            db.execute(
                "DELETE FROM gone WHERE node_id IN (SELECT node_id FROM gone WHERE ban = '' AND at < ? "
                "ORDER BY at LIMIT 100)",
                (now - TOMBSTONE_SECONDS,),
            )

    def bury_key(self, node_id: str, links: int, key: str, now: float) -> None:
        """Remember of a node that is removed which key it had after how many replacements. Bounded: the oldest go."""
        with self._change() as db:
            db.execute("INSERT OR REPLACE INTO gone_keys VALUES (?, ?, ?, ?)", (node_id, links, key, now))
            db.execute(
                "DELETE FROM gone_keys WHERE node_id IN "
                "(SELECT node_id FROM gone_keys ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (MOST_GONE_KEYS,),
            )

    def gone(self, node_id: str) -> Gone:
        """What is remembered of a node that was removed."""
        if self._batch_thread != threading.get_ident():
            with self._reading() as db:
                return Gone(*db.execute(_GONE, (node_id,)).fetchone())
        try:  # as each registration asks it
            return Gone(*self._db.execute(_GONE, (node_id,)).fetchone())
        except sqlite3.DatabaseError:
            with self._translated():
                raise

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
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
        """For a thread that has a batch open, what that batch has changed."""
        if self._batch_thread == threading.get_ident():
            with self._translated():
                yield self._db
            return
        with self._reading_lock, self._translated():
            yield self._reader

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise StoreError(str(self._path), f"cannot be used: {error}") from error
            raise DamagedStoreError(str(self._path), f"is not a sound SQLite file: {error}") from error
        except OSError as error:
            raise StoreError(str(self._path), f"cannot be opened: {reason_of(error)}") from error


_SELECT = (
    "SELECT t.id, t.role, t.label, t.wallet, t.created, t.expires, t.uses, count(j.node_id), t.revoked "
    "FROM tokens t LEFT JOIN joins j ON j.token = t.id"
)
_GONE = (
    "SELECT g.generation, g.ban, k.links, k.key FROM (SELECT ? AS id) "
    "LEFT JOIN gone g ON g.node_id = id LEFT JOIN gone_keys k ON k.node_id = id"
)
