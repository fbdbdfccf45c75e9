"""Checks, copies and restores a whole state folder. A running process may use the folder while it is copied.

Only the files listed below are copied, if they exist. Secrets are copied only on request, because a copy of them
is enough to act as the coordinator or the node.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from duxnet.coordinator.access.audit_log import AUDIT_FILE
from duxnet.coordinator.access.own_identity import (
    ID_FILE,
    KEY_FILE,
    OPERATOR_TOKEN_FILE,
    read_coordinator_id,
    read_coordinator_identity,
)
from duxnet.coordinator.access.token_store import COORDINATOR_DB, KIND, check_rows
from registry_core.errors import DamagedStoreError, StoreError, reason_of
from registry_core.files.atomic import appearing, kept_aside, refuse_existing
from registry_core.files.locks import lock_beside, locked_folder
from registry_core.files.opening import Folder, open_regular
from registry_core.identity import identity_files as node_files
from registry_core.identity.node_key import load_node_key
from registry_core.remote.node_session import REMOTE_FILE
from registry_core.storage.maintenance.backup import put_in_place
from registry_core.storage.maintenance.verify import Progress, Verification, is_sqlite_file, verify
from registry_core.storage.sealing import KeyRing
from registry_core.storage.sqlite.copy import copy_sqlite
from registry_core.storage.sqlite.open import REGISTRY, check_identity, connect, settled_scan, translated
from registry_core.storage.state_sum import SumKey

__all__ = ["FolderBackup", "back_up_folder", "restore_folder", "verify_folder"]

REGISTRIES = ("nodes.db", "nodes.json")
SECRETS = (KEY_FILE, OPERATOR_TOKEN_FILE, node_files.KEY_FILE)
OTHERS = (ID_FILE, node_files.ID_FILE, REMOTE_FILE, AUDIT_FILE)
_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class FolderBackup:
    """The files in a copy of a state folder, the results of its check, and the secrets that were left out."""

    path: str
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    found: tuple[Verification, ...]


def verify_folder(
    folder: Path, keys: Optional[KeyRing] = None, progress: Optional[Progress] = None
) -> list[Verification]:
    """Checks each database and key in a state folder. Raises StoreError if it has no database."""
    sum_key, found = _verified_keys(folder)
    for name in _databases(folder):
        path = folder / name
        try:
            found.append(
                _verified_tokens(path) if name == COORDINATOR_DB else verify(path, keys, progress, sum_key=sum_key)
            )
        except DamagedStoreError as error:
            found.append(Verification(str(path), "sqlite", damage=(error.where,)))
    names = [Path(each.path).name for each in found]
    if KEY_FILE in names and COORDINATOR_DB not in names:
        found.append(Verification(str(folder / COORDINATOR_DB), "tokens", damage=("it is missing",)))
    return found


def back_up_folder(
    source: Path, target: Path, *, secrets: bool = False, overwrite: bool = False, progress: Optional[Progress] = None
) -> FolderBackup:
    """Copy the state folder `source` to `target`, completely or not at all, and check the copy. Raises StoreError.

    Other processes may use `source` meanwhile. The nodes are copied before the tokens, so that the copy never has fewer
    uses of a join token than nodes that joined with it.
    """
    names = _databases(source)
    if not overwrite:
        refuse_existing(target)
    _refuse_foreign_files(target)
    draft = target.with_name(f".{target.name}.{os.urandom(8).hex()}.partial")
    try:
        with Folder(target.parent, make=True):
            draft.mkdir(mode=0o700)
        sum_key, _ = _verified_keys(source)
        found = []
        for name in tuple(names):
            with appearing(draft / name, overwrite=False) as temporary:
                kind = KIND if name == COORDINATOR_DB else REGISTRY
                if is_sqlite_file(source / name):
                    copy_sqlite(source / name, temporary, progress or (lambda _done, _total: None), kind)
                else:
                    _copied(source / name, temporary)
                checked = _verified_tokens(temporary) if kind is KIND else verify(temporary, sum_key=sum_key)
            found.append(Verification(**{**checked.__dict__, "path": str(target / name)}))
        present = [name for name in (*OTHERS, *SECRETS) if os.path.lexists(source / name)]
        left_out = [name for name in present if name in SECRETS and not secrets]
        for name in present:
            if name not in left_out:
                with appearing(draft / name, overwrite=False) as temporary:
                    _copied(source / name, temporary)
                names.append(name)
        old = kept_aside(target, "replaced") if target.exists() else None
        if old is not None:
            target.rename(old)
        draft.rename(target)
        if old is not None:
            shutil.rmtree(old)
    except OSError as error:
        raise StoreError(str(target), f"cannot be written: {reason_of(error)}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return FolderBackup(str(target), tuple(names), tuple(left_out), tuple(found))


def restore_folder(
    backup: Path, target: Path, *, overwrite: bool = False, progress: Optional[Progress] = None
) -> tuple[dict[str, str], list[str]]:
    """Replace the databases in `target`, which no process may have open, with those of a checked backup.

    Returns the new paths of the old databases, by name, and the names of the keys that are still missing. Other
    files are copied only if `target` has none. Repeat it if it was interrupted. Raises StoreError, DamagedStoreError.
    """
    damage = [
        f"{Path(each.path).name}: {text}" for each in verify_folder(backup, None, progress) for text in each.damage
    ]
    if damage:
        raise DamagedStoreError(str(backup), "it cannot be restored: " + "; ".join(damage[:3]))
    names = _databases(backup)
    with Folder(target, make=True):  # it may belong to another user: root restores the folder of a service
        pass
    _refuse_another(backup, target)
    for name in names if not overwrite else ():
        refuse_existing(target / name)
    registry = next((name for name in names if name in REGISTRIES), REGISTRIES[0])
    aside: dict[str, str] = {}
    lock = lock_beside(target / registry)
    try:
        with locked_folder(target):
            for name in names:
                kind = KIND if name == COORDINATOR_DB else REGISTRY
                kept = put_in_place(backup / name, target / name, overwrite=overwrite, kind=kind)
                if kept is not None:
                    aside[name] = str(kept)
            for name in (*OTHERS, *SECRETS):
                if os.path.lexists(backup / name) and not os.path.lexists(target / name):
                    with appearing(target / name, overwrite=False) as temporary:
                        _copied(backup / name, temporary)
    finally:
        lock.release()
    wanted = [
        key
        for key, named in ((KEY_FILE, ID_FILE), (node_files.KEY_FILE, node_files.ID_FILE))
        if os.path.lexists(target / named) and not os.path.lexists(target / key)
    ]
    return aside, wanted


def _databases(folder: Path) -> list[str]:
    found = [name for name in (*REGISTRIES, COORDINATOR_DB) if os.path.lexists(folder / name)]
    if not found:
        raise StoreError(
            str(folder), f"holds none of {', '.join((*REGISTRIES, COORDINATOR_DB))}: it is not a state folder"
        )
    return found


def _verified_keys(folder: Path) -> tuple[Optional[SumKey], list[Verification]]:
    """Returns the key of the registry's sums, and the results of the check of each key."""
    found: list[Verification] = []
    sum_key: Optional[SumKey] = None
    if os.path.lexists(folder / KEY_FILE):
        try:
            sum_key = SumKey(read_coordinator_identity(folder).sum_key)
            found.append(Verification(str(folder / KEY_FILE), "key"))
        except StoreError as error:
            found.append(_bad_key(folder / KEY_FILE, error))
    if os.path.lexists(folder / node_files.KEY_FILE):
        try:
            with locked_folder(folder):
                load_node_key(folder)
            found.append(Verification(str(folder / node_files.KEY_FILE), "key"))
        except StoreError as error:
            found.append(_bad_key(folder / node_files.KEY_FILE, error))
    return sum_key, found


def _bad_key(path: Path, error: StoreError) -> Verification:
    return Verification(str(path), "key", damage=(str(error),))


def _verified_tokens(path: Path) -> Verification:
    result: dict[str, Any] = {"path": str(path), "kind": "tokens"}
    try:
        check_identity(path, KIND)
        log = settled_scan(path)
        result["log_is_damaged"] = log.has_damaged_tail
        if log.has_damaged_tail:
            result["notes"] = (log.tail_text(),)
        with translated(str(path), "read"), closing(connect(path, read_only=True)) as connection:
            _check_tokens(str(path), connection)
    except DamagedStoreError as error:
        return Verification(**result, damage=(error.where,))
    if log.commits_surely_lost or log.header_damaged:
        return Verification(**{**result, "notes": ()}, damage=(log.tail_text(),))
    return Verification(**result)


def _check_tokens(location: str, connection: sqlite3.Connection) -> None:
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout == KIND.layout:  # rows of layout 1 have no checksums until the next start adds them
        check_rows(location, connection)


def _refuse_another(backup: Path, target: Path) -> None:
    """Raises StoreError if the two folders belong to different coordinators or nodes."""
    there = _identity_in(target)
    wanted = _identity_in(backup)
    if there and wanted and there != wanted:
        raise StoreError(str(target), f"belongs to {there}, but {backup} is a copy of the folder of {wanted}")


def _identity_in(folder: Path) -> str:
    if os.path.lexists(folder / KEY_FILE):
        return read_coordinator_identity(folder).id
    if os.path.lexists(folder / ID_FILE):
        return read_coordinator_id(folder)
    if os.path.lexists(folder / node_files.ID_FILE):
        return node_files.parse_id_file(folder).id
    return ""


def _refuse_foreign_files(target: Path) -> None:
    """Raises StoreError if `target` has files that are not part of a backup: they would be deleted with it."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise StoreError(str(target), "is not a folder; it is not changed")
    known = {*REGISTRIES, COORDINATOR_DB, *SECRETS, *OTHERS}
    known |= {name + ending for name in (*REGISTRIES, COORDINATOR_DB) for ending in ("-wal", "-shm")}
    foreign = sorted({each.name for each in target.iterdir()} - known)
    if foreign:
        raise StoreError(str(target), f"holds {foreign[0]!a}, which is not part of a backup; the folder is not changed")


def _copied(source: Path, temporary: Path) -> None:
    """Copy a file up to its current size, so that a log that grows meanwhile ends with a complete line."""
    with os.fdopen(open_regular(source), "rb") as stream, temporary.open("wb") as copy:
        left = os.fstat(stream.fileno()).st_size
        while left and (piece := stream.read(min(_COPY_BYTES, left))):
            copy.write(piece)
            left -= len(piece)
