"""Checks whether the registry in a file is undamaged. Reads everything, changes nothing, works beside a running writer.

`duxnet.cli.registry` prints the result.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core.errors import DamagedStoreError, StoreError, reason_of
from registry_core.models.times import time_to_text
from registry_core.storage.json_file import JsonFileStore
from registry_core.storage.sealed_file import is_sealed_file
from registry_core.storage.sealing import KeyRing
from registry_core.storage.sqlite import rows as layout
from registry_core.storage.sqlite.file_handles import read_head
from registry_core.storage.sqlite.open import (
    ROLLED_BACK,
    FileState,
    check_identity,
    connect,
    open_checked,
    read_state,
    sealer_for,
    settled_scan,
    sum_key_of,
    translated,
)
from registry_core.storage.state_sum import SumKey

__all__ = ["Progress", "Verification", "is_sqlite_file", "sealed_with", "verify"]

Progress = Callable[[int, int], None]
"""Called with the number of nodes done and the number in total."""

MOST_FINDINGS = 100
_NO_SUM_KEY = (
    "the file does not contain the key of its sums (a coordinator derives it from the coordinator.key beside it): "
    "records were not compared with their sums"
)
_NOT_OPENED = "sealed, and no key was given: only checks that need no key were made"


@dataclass(frozen=True)
class Verification:
    """The result. `damage` names each damaged record or part; empty: the registry is undamaged.

    `notes` are for the operator, and are not damage. `opened` is False for a sealed registry without its key, for
    which only checksums could be checked.
    """

    path: str
    kind: str
    schema: str = ""
    nodes: int = 0
    sealed_with: tuple[str, ...] = ()
    opened: bool = True
    last_commit: Optional[int] = None
    last_commit_at: Optional[str] = None
    log_is_damaged: bool = False
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged, apart from the log's tail."""
        return not self.damage

    def to_plain(self) -> dict[str, Any]:
        """For `--format json`."""
        found = dict(self.__dict__)
        return {"schema": "duxnet.verification/1.0", "is_whole": self.is_whole, "keeps": found.pop("schema"), **found}


@dataclass
class _Found:
    nodes: int = 0
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if len(self.damage) == MOST_FINDINGS:
            self.damage.append(f"and more; only the first {MOST_FINDINGS} are listed")
        elif len(self.damage) < MOST_FINDINGS:
            self.damage.append(text)

    def note(self, text: str) -> None:
        """Add a note; their number is limited like that of damages."""
        if len(self.notes) < MOST_FINDINGS:
            self.notes.append(text)


def is_sqlite_file(path: Path) -> bool:
    """Whether the file begins like an SQLite file, whatever its name. Raises StoreError when it cannot be read."""
    try:
        return read_head(path, 16) == b"SQLite format 3\x00"
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from None


def sealed_with(path: Path) -> tuple[bytes, ...]:
    """The ids of the keys that the registry at `path` needs; empty for one in clear. Raises StoreError."""
    if is_sqlite_file(path):
        return open_checked(path, alone=False).sealed_with
    key_id = is_sealed_file(path)
    return () if key_id is None else (key_id,)


def verify(
    path: Path,
    keys: Optional[KeyRing] = None,
    progress: Optional[Progress] = None,
    *,
    sum_key: Optional[SumKey] = None,
) -> Verification:
    """Check the whole registry at `path`. Raises StoreError when there is none, and for wrong keys.

    `sum_key`: the key of the registry's sums, if its file does not contain it.
    """
    if is_sqlite_file(path) or path.suffix != ".json":
        return _verify_sqlite(path, keys, progress or (lambda _done, _total: None), sum_key)
    return _verify_json(path, keys)


def _verify_json(path: Path, keys: Optional[KeyRing]) -> Verification:
    changed = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    result: dict[str, Any] = {"path": str(path), "kind": "json", "last_commit_at": time_to_text(changed)}
    sealed = is_sealed_file(path)
    if sealed is not None:
        result["sealed_with"] = (sealed.hex(),)
        if keys is None:
            return Verification(**result, opened=False, notes=(_NOT_OPENED,))
    try:
        store = JsonFileStore(path, read_only=True, keys=keys if sealed is not None else None)
    except DamagedStoreError as error:
        return Verification(**result, damage=(error.where,))
    with closing(store):
        nodes = sum(1 for _row in store.rows())
    return Verification(**result, schema=layout.SCHEMA, nodes=nodes)


def _verify_sqlite(path: Path, keys: Optional[KeyRing], progress: Progress, sum_key: Optional[SumKey]) -> Verification:
    location, found = str(path), _Found()
    result: dict[str, Any] = {"path": location, "kind": "sqlite"}
    log = settled_scan(path)
    try:
        found_layout = check_identity(path)
        with translated(location, "read"), closing(connect(path, read_only=True)) as connection:
            connection.execute("BEGIN")  # all that follows sees one commit
            state = read_state(location, connection)
            keys = keys if state.sealed_with else None
            opened = keys is not None or not state.sealed_with
            result.update(_state_fields(state), opened=opened)
            rows = _rows(location, state, keys, found, found_layout)
            if opened and state.sum is not None:
                rows.sums = sum_key_of(state, rows, sum_key)
                if rows.sums is None:
                    found.note(_NO_SUM_KEY)
            _check_rows(connection, rows, rows.check if opened else rows.check_sums, found, progress)
            if found_layout >= layout.RECORDS_APART:
                _check_tombstones(connection, rows.check_tombstone if opened else layout.check_tombstone_sum, found)
            _check_state(state, rows, found, opened=opened)
            for (text,) in connection.execute(f"PRAGMA integrity_check({MOST_FINDINGS})"):
                if text != "ok":
                    found.add(f"SQLite: {text}")
    except DamagedStoreError as error:
        found.add(error.where)
    if not result.get("opened", True):
        found.notes.append(_NOT_OPENED)
    if log.has_damaged_tail:
        at = f"commit {result.get('last_commit')} of {result.get('last_commit_at')}"
        found.notes.append(f"{log.tail_text()}; opening the registry rolls it back to {at}")
    if log.commits_surely_lost or log.header_damaged:
        found.add(found.notes.pop())
    return Verification(
        **result,
        nodes=found.nodes,
        log_is_damaged=log.has_damaged_tail,
        damage=tuple(found.damage),
        notes=tuple(found.notes),
    )


def _state_fields(state: FileState) -> dict[str, Any]:
    stamp = state.last_commit
    return {
        "schema": state.schema,
        "sealed_with": tuple(key_id.hex() for key_id in state.sealed_with),
        "last_commit": stamp.number,
        "last_commit_at": stamp.time_text() if stamp.at_ms else None,
    }


def _rows(location: str, state: FileState, keys: Optional[KeyRing], found: _Found, found_layout: int) -> layout.Rows:
    """The reader of rows; of a sealed registry without its key it can only check checksums."""

    def dropped(node_id: str, what: Sequence[str]) -> None:
        rule = "that the registry cannot have written, which the next opening for writing drops"
        found.note(f"node {node_id} has fields {rule}: {'; '.join(what)}")

    older = found_layout if found_layout < layout.RECORDS_APART else 0
    sealer = None if keys is None and state.sealed_with else sealer_for(location, state, keys)
    return layout.Rows(sealer, newer=state.newer, older=older, dropped=dropped)


def _check_rows(
    connection: sqlite3.Connection,
    rows: layout.Rows,
    check: Callable[[tuple[Any, ...]], None],
    found: _Found,
    progress: Progress,
) -> None:
    (total,) = connection.execute("SELECT count(*) FROM nodes").fetchone()
    tally = layout.IndexTally()
    for row in connection.execute(rows.everything_sql):
        found.nodes += 1
        try:
            check(row)
            tally.add_whole(row)
        except layout.BadRow as error:
            found.add(str(error))
        if found.nodes % 1000 == 0:
            progress(found.nodes, total)
    progress(found.nodes, total)
    if found.damage:  # a bad row is not in the tally
        return
    try:
        tally.compare(connection.execute(layout.INDEX_SUMS).fetchone())
        if not rows.is_older:
            tally.compare_sum(connection, rows.sums)
    except layout.BadRow as error:
        found.add(str(error))


def _check_tombstones(connection: sqlite3.Connection, check: Callable[[tuple[Any, ...]], None], found: _Found) -> None:
    for row in connection.execute(layout.EVERY_TOMBSTONE):
        try:
            check(row)
        except layout.BadRow as error:
            found.add(str(error))


def _check_state(state: FileState, rows: layout.Rows, found: _Found, *, opened: bool) -> None:
    rolled_back = state.values.get(ROLLED_BACK)
    if rolled_back is not None:
        found.notes.append(f"it was once opened with a damaged log: {rolled_back}")
    for key, value in state.values.items() if opened else ():
        if key.startswith(layout.META):
            try:
                rows.opened_meta(key[len(layout.META) :], value)
            except layout.BadRow as error:
                found.add(str(error))
