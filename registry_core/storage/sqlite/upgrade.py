"""Bringing a file of an older layout to this one, after a copy of it was put aside.

Here: the steps from layout to layout, and the order copy, change, mark. A new layout adds a line here.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Optional

from registry_core.files.atomic import appearing, kept_aside
from registry_core.storage.older_records import log_dropped
from registry_core.storage.sealing import Sealer
from registry_core.storage.sqlite.copy import copy_sqlite
from registry_core.storage.sqlite.open import connect, translated
from registry_core.storage.sqlite.rows import LAYOUT, PUT, RECORDS_APART, SCHEMA, SOME, BadRow, Rows

__all__ = ["UPGRADES", "bring_up"]

_log = logging.getLogger(__name__)

UPGRADES: Mapping[int, str] = {
    1: "ALTER TABLE samples ADD COLUMN is_down INTEGER NOT NULL DEFAULT 0",
    2: f"UPDATE state SET value = '{SCHEMA}' WHERE key = 'schema' AND value = 'duxnet.nodes/1.0'",  # noqa: S608 - ours
}
"""Layout → the SQL that makes the next one of it."""

_AT_ONCE = 1_000


def bring_up(
    path: Path,
    sealer: Optional[Sealer] = None,
    *,
    upgrades: Mapping[int, str] = UPGRADES,
    wanted: int = LAYOUT,
) -> None:
    """Change the file at `path` to the layout `wanted`, in one transaction, if it is older. Raises StoreError.

    The caller holds the writer's lock. A crash leaves the old layout or the new one, and the copy in any case.
    `sealer`: of a registry that is sealed.
    """
    with translated(str(path), "upgraded"), closing(connect(path, read_only=False)) as connection:
        found = _layout(connection)
        if found >= wanted:
            return
        aside = kept_aside(path, f"layout-{found}")
        with appearing(aside, overwrite=False) as temporary:
            copy_sqlite(path, temporary, lambda _done, _total: None)
        connection.execute("BEGIN IMMEDIATE")
        for layout in range(found, wanted):
            for statement in upgrades[layout].split(";"):
                connection.execute(statement)
        if found < RECORDS_APART:
            _take_records_apart(path, connection, sealer)
        connection.execute(f"PRAGMA user_version = {wanted}")
        connection.execute("COMMIT")
    _log.warning("%s was brought from layout %d to %d; the old file is kept as %s", path, found, wanted, aside.name)


def _take_records_apart(path: Path, connection: sqlite3.Connection, sealer: Optional[Sealer]) -> None:
    """Write each record anew that is arranged otherwise today. One that is damaged stays as it is, and is named."""
    older = Rows(sealer, older=True, dropped=partial(log_dropped, str(path)))
    newer = Rows(sealer)
    behind = -1
    while piece := connection.execute(SOME, (behind, _AT_ONCE)).fetchall():
        for row in piece:
            try:
                changed = older.brought_up(row, newer)
            except BadRow as error:
                _log.error("%s: %s; it stays as it is", path, error)
                continue
            if changed is not None:
                connection.execute(PUT, changed)
        behind = piece[-1][1]


def _layout(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
