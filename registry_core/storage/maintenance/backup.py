"""Backs up a registry beside a running writer, and restores it.

Whole files are copied. A sealed registry stays sealed: no key is needed, and the copy contains none. `migrate` converts
between kinds of files.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Optional

from registry_core.errors import DamagedStoreError, StoreError, ValidationError
from registry_core.files.atomic import appearing, kept_aside, refuse_existing
from registry_core.files.locks import lock_beside
from registry_core.files.opening import own_place
from registry_core.storage.maintenance.verify import Progress, Verification, is_sqlite_file, verify
from registry_core.storage.sqlite.copy import copy_sqlite
from registry_core.storage.sqlite.open import REGISTRY, Kind, check_identity, connect, has_log, translated, wal_of

__all__ = ["backup", "put_in_place", "restore"]


def backup(source: Path, target: Path, *, overwrite: bool = False, progress: Optional[Progress] = None) -> Verification:
    """Copy the registry at `source` as of its last commit; returns the verification of the copy.

    A running writer does not wait for it. `progress` counts pages. A damaged copy is kept, since it may be all that is
    left: check `is_whole`. Raises StoreError, and then there is no copy.
    """
    _same_kind(source, target)
    with appearing(target, overwrite=overwrite) as temporary:
        if is_sqlite_file(source):
            copy_sqlite(source, temporary, progress or (lambda _done, _total: None))
        else:
            shutil.copyfile(source, temporary)
        found = verify(temporary)
    return Verification(**{**found.__dict__, "path": str(target)})


def restore(
    copy: Path, target: Path, *, overwrite: bool = False, progress: Optional[Progress] = None
) -> Optional[Path]:
    """Replace the registry at `target` by a backup; returns the path at which the old registry is kept, if any.

    Raises DamagedStoreError for a damaged backup, StoreInUseError while a process has the registry open, and StoreError
    when `target` exists and `overwrite` is False. At any moment either the old or the new registry is complete.
    """
    _same_kind(copy, target)
    found = verify(copy, progress=progress)
    if not found.is_whole:
        raise DamagedStoreError(str(copy), "it was not restored: " + "; ".join(found.damage[:3]))
    if not overwrite:
        refuse_existing(target)
    place = own_place(target, "the folder of a registry", own=False)
    lock = lock_beside(place)
    try:
        return put_in_place(copy, place, overwrite=overwrite)
    finally:
        lock.release()


def put_in_place(copy: Path, place: Path, *, overwrite: bool, kind: Kind = REGISTRY) -> Optional[Path]:
    """Put a checked copy at `place`; the caller holds its lock. Returns the path where the old file is kept."""
    with appearing(place, overwrite=overwrite, alone=True) as temporary:
        if is_sqlite_file(copy):
            copy_sqlite(copy, temporary, lambda _done, _total: None, kind)
        else:
            shutil.copyfile(copy, temporary)
        return _put_aside(place, kind)


def _put_aside(place: Path, kind: Kind) -> Optional[Path]:
    """Keep the old registry under another name. Its log is removed first: it would be replayed into the new file."""
    if not place.exists() and not has_log(place):
        return None
    aside = kept_aside(place, "before-restore")
    with translated(str(place), "kept aside"):
        if has_log(place):
            _checkpoint(place, kind)
        if has_log(place):  # keep a log that could not be written into the file
            wal_of(place).replace(wal_of(aside))
        wal_of(place).unlink(missing_ok=True)
        place.with_name(place.name + "-shm").unlink(missing_ok=True)
        if not place.exists():
            return aside
    with appearing(aside, overwrite=False) as copy:  # until the rename, the old registry also stays in its place
        shutil.copyfile(place, copy)
    return aside


def _checkpoint(place: Path, kind: Kind) -> None:
    """Let SQLite write the log into the file, if both are sound enough for that."""
    try:
        check_identity(place, kind)
        with closing(connect(place, read_only=False)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (sqlite3.Error, StoreError):
        return


def _same_kind(source: Path, target: Path) -> None:
    is_sqlite = is_sqlite_file(source)
    if is_sqlite == (target.suffix == ".json"):
        kind = "SQLite" if is_sqlite else "JSON"
        rule = f"must name a {kind} file, as the source is; `duxnet registry migrate` changes the kind"
        raise ValidationError("target", str(target), rule)
