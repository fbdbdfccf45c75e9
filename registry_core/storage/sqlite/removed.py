"""Writes the table of tombstones in SQLite, and removes those beyond their limits.

`rows` has the rows and checksums, `storage.tombstones` the limits; `store` reads the table.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from registry_core.storage.sqlite import rows as layout
from registry_core.storage.sqlite.rows import Stamp
from registry_core.storage.tombstones import (
    BRIEF_SECONDS,
    MOST_KEPT,
    NODE,
    Retention,
    StoredTombstone,
    TombstoneKey,
)

__all__ = ["RemovedTable", "forgotten_at"]

_log = logging.getLogger(__name__)

_OLDEST_BRIEF = f"""
SELECT kind, key, change, at, retention, sum FROM removed
WHERE retention = {int(Retention.BRIEF)} ORDER BY change LIMIT ?
"""  # noqa: S608 - a number


def forgotten_at(connection: sqlite3.Connection) -> int:
    """The newest change of a removal whose tombstone is gone; 0: there is none."""
    row = connection.execute(layout.ONE_STATE, (layout.FORGOTTEN,)).fetchone()
    return 0 if row is None else int(row[0])


class RemovedTable:
    """The table for the writer, which makes one commit at a time."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._retained: Optional[Counter[int]] = None  # the number of tombstones by retention
        self._forgotten = 0

    def roll_back(self) -> None:
        """Forget the state of a transaction that was rolled back."""
        self._retained = None

    def write(
        self,
        connection: sqlite3.Connection,
        rows: layout.Rows,
        tombstones: Mapping[TombstoneKey, Optional[StoredTombstone]],
        removed: Sequence[TombstoneKey],
        stamp: Stamp,
    ) -> int:
        """Write tombstones, and remove those beyond their limits; returns the change of the sum.

        Each `removed` node gets a tombstone, so that `changed_since` can report it.
        """
        if self._retained is None:
            self._retained = Counter(dict(connection.execute(layout.RETAINED).fetchall()))
            self._forgotten = forgotten_at(connection)
        retained, change, at = self._retained, stamp.number, stamp.at_ms / 1000
        total = 0
        is_removed = frozenset(removed)
        for key in dict.fromkeys((*removed, *tombstones)):
            row = connection.execute(layout.ONE_TOMBSTONE, key).fetchone()
            tombstone = tombstones.get(key)
            if tombstone is None and key in is_removed:
                stays = row is not None and key not in tombstones
                tombstone = rows.tombstone(row) if stays else StoredTombstone(key, at)
            if row is not None:
                total -= self._dig_out(connection, row, retained)
            if tombstone is not None:
                total += self._put(connection, rows, tombstone, change, retained)
        for retention in [each for each, most in MOST_KEPT.items() if retained[each] > most]:
            surplus = retained[retention] - MOST_KEPT[retention]
            for row in connection.execute(layout.SOME_TOMBSTONES, (retention, surplus)).fetchall():
                total -= self._dig_out(connection, row, retained)
                lighter = self._lighter(rows, row)
                if lighter is None:
                    self._forget(row)
                else:
                    total += self._put(connection, rows, lighter, row[2], retained)
        brief = (each.at for each in tombstones.values() if each is not None and each.retention is Retention.BRIEF)
        newest = max(brief, default=0.0)
        for row in connection.execute(_OLDEST_BRIEF, (2 * len(tombstones),)).fetchall():
            if row[3] >= newest - BRIEF_SECONDS:
                break
            total -= self._dig_out(connection, row, retained)
            self._forget(row)
        if self._forgotten:
            connection.execute(layout.PUT_STATE, (layout.FORGOTTEN, str(self._forgotten)))
        return total

    def _lighter(self, rows: layout.Rows, row: tuple[Any, ...]) -> Optional[StoredTombstone]:
        try:
            return rows.tombstone(row).lighter()
        except layout.BadRow as error:
            _log.error("%s: %s; it was beyond the limit, and is no longer kept", self._location, error)
            return None

    def _forget(self, row: tuple[Any, ...]) -> None:
        if row[0] == NODE:
            self._forgotten = max(self._forgotten, row[2])

    @staticmethod
    def _put(
        connection: sqlite3.Connection,
        rows: layout.Rows,
        tombstone: StoredTombstone,
        change: int,
        retained: Counter[int],
    ) -> int:
        values = rows.for_tombstone(tombstone, change)
        connection.execute(layout.PUT_TOMBSTONE, values)
        retained[values[4]] += 1
        return int.from_bytes(values[5], "big")

    @staticmethod
    def _dig_out(connection: sqlite3.Connection, row: tuple[Any, ...], retained: Counter[int]) -> int:
        connection.execute(layout.DELETE_TOMBSTONE, row[:2])
        retained[row[4]] -= 1
        return int.from_bytes(row[5], "big")
