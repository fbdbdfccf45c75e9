"""Upgrades a file of an older layout to today's, after making a copy of it; and computes all sums again.

A new layout adds an entry to `UPGRADES`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core.files.atomic import appearing, kept_aside
from registry_core.storage.older_records import log_dropped
from registry_core.storage.sealing import Sealer
from registry_core.storage.sqlite import rows as layout
from registry_core.storage.sqlite.copy import copy_sqlite
from registry_core.storage.sqlite.open import (
    REGISTRY,
    Kind,
    choose_sum_key,
    connect,
    new_label_key,
    read_state,
    sum_state,
    translated,
)
from registry_core.storage.sqlite.rows import LAYOUT, RECORDS_APART, SCHEMA, BadRow, Rows
from registry_core.storage.state_sum import SumKey, added
from registry_core.storage.tombstones import tombstones_of_rings

__all__ = ["UPGRADES", "bring_up", "make_sums_anew", "upgrade_file"]

_log = logging.getLogger(__name__)

_LAYOUT_3 = f"""
ALTER TABLE nodes RENAME TO nodes_before;
DROP TRIGGER forget_sample;
{layout.CREATE_NODES}
UPDATE state SET value = '{SCHEMA}' WHERE key = 'schema' AND value = 'duxnet.nodes/1.0';
"""  # noqa: S608 - ours

UPGRADES: Mapping[int, str] = {
    1: "ALTER TABLE samples ADD COLUMN is_down INTEGER NOT NULL DEFAULT 0",
    2: _LAYOUT_3,
}
"""Layout → the SQL that upgrades it to the next one."""

_AT_ONCE = 1_000


def bring_up(
    path: Path,
    sealer: Optional[Sealer] = None,
    *,
    sum_key: Optional[SumKey] = None,
    upgrades: Mapping[int, str] = UPGRADES,
    wanted: int = LAYOUT,
) -> None:
    """Upgrade the registry at `path` to the layout `wanted`, in one transaction, if it is older. Raises StoreError.

    The caller holds the writer's lock. A crash leaves the old layout or the new one, and the copy in any case.
    `sealer`: for a sealed registry. `sum_key`: the key of its sums, unless the file contains its own.
    """

    def step(connection: sqlite3.Connection, found: int) -> None:
        for older in range(found, wanted):
            run_statements(connection, upgrades[older])
        if found < RECORDS_APART <= wanted:
            before = Rows(sealer, older=found, dropped=partial(log_dropped, str(path)))
            _to_layout_3(path, connection, before, Rows(sealer), sum_key)

    upgrade_file(path, step, wanted=wanted)


def upgrade_file(
    path: Path, step: Callable[[sqlite3.Connection, int], None], *, kind: Kind = REGISTRY, wanted: Optional[int] = None
) -> None:
    """Upgrade the database at `path` with `step`, which gets its layout, in one transaction, if it is older.

    A copy is kept beside it. Raises StoreError.
    """
    target = kind.layout if wanted is None else wanted
    with translated(str(path), "upgraded"), closing(connect(path, read_only=False)) as connection:
        found = _layout(connection)
        if found >= target:
            return
        aside = kept_aside(path, f"layout-{found}")
        with appearing(aside, overwrite=False) as temporary:
            copy_sqlite(path, temporary, lambda _done, _total: None, kind)
        connection.execute("BEGIN IMMEDIATE")
        if _layout(connection) >= target:  # another process was faster
            connection.execute("ROLLBACK")
            return
        step(connection, found)
        connection.execute(f"PRAGMA application_id = {kind.application_id}")
        connection.execute(f"PRAGMA user_version = {target}")
        connection.execute("COMMIT")
    _log.warning("%s was upgraded from layout %d to %d; the old file is kept as %s", path, found, target, aside.name)


def run_statements(connection: sqlite3.Connection, sql: str) -> None:
    """Run each statement of `sql`, without the commit that `executescript` makes first."""
    statement = ""
    for part in sql.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _to_layout_3(
    path: Path, connection: sqlite3.Connection, before: Rows, newest: Rows, sum_key: Optional[SumKey]
) -> None:
    """Write each record again, with its sum; and convert the texts about removed nodes to tombstones."""
    number = read_state(str(path), connection).last_commit.number
    kept = choose_sum_key(newest, sum_key)
    sql = before.some_sql.replace(" FROM nodes ", " FROM nodes_before AS nodes ")
    total = _written_anew(path, connection, before, newest, sql, number)
    connection.execute("DROP TABLE nodes_before")
    meta = {}
    for key, value in connection.execute(layout.ALL_META).fetchall():
        try:
            meta[key[len(layout.META) :]] = before.opened_meta(key[len(layout.META) :], value)
        except BadRow as error:
            _log.error("%s: %s; it is left as it is", path, error)
    found, left = tombstones_of_rings(str(path), meta, time.time())
    for tombstone in found:
        values = newest.for_tombstone(tombstone, number)
        connection.execute(layout.PUT_TOMBSTONE, values)
        total = added(total, int.from_bytes(values[5], "big"))
    connection.executemany(layout.DELETE_STATE, ((layout.META + key,) for key in meta.keys() - left.keys()))
    kept += [(layout.FORGOTTEN, str(number)), sum_state(newest, total, number), new_label_key(newest)]
    connection.executemany(layout.PUT_STATE, kept)


def make_sums_anew(path: Path, connection: sqlite3.Connection, rows: Rows, key: Optional[SumKey]) -> int:
    """Compute all sums with `key`, or with a new key for the file; returns the total. Call it in a transaction.

    `rows` uses the new key from now on.
    """
    newest = rows.another()
    kept = choose_sum_key(newest, key)
    total = _written_anew(path, connection, rows, newest, rows.some_sql, None)
    for row in connection.execute(layout.EVERY_TOMBSTONE).fetchall():
        try:
            values = newest.for_tombstone(rows.tombstone(row), row[2])
        except BadRow as error:
            _log.error("%s: %s; it is left as it is", path, error)
            values = row
        connection.execute(layout.PUT_TOMBSTONE, values)
        total = added(total, int.from_bytes(values[5], "big"))
    connection.execute(layout.DELETE_STATE, (layout.META + layout.SUM_KEY,))
    connection.executemany(layout.PUT_STATE, kept)
    rows.sums = newest.sums
    return total


def _written_anew(
    path: Path, connection: sqlite3.Connection, before: Rows, newest: Rows, sql: str, change: Optional[int]
) -> int:
    """Write each row with `newest`; returns the total of their sums. A damaged row stays damaged, and is logged."""
    total = 0
    for row in _rows(connection, sql):
        number = layout.change_of(row) if change is None else change
        try:
            values = before.written_anew(row, newest, number)
        except BadRow as error:
            _log.error("%s: %s; it is left as it is", path, error)
            values = before.damaged_anew(row, newest, number)
        connection.execute(layout.PUT, values)
        total = added(total, int.from_bytes(layout.sum_of(values), "big"))
    return total


def _rows(connection: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    behind = -1
    while piece := connection.execute(sql, (behind, _AT_ONCE)).fetchall():
        yield from piece
        behind = piece[-1][1]


def _layout(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
