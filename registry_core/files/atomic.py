"""Files that are written completely or not at all: a crash at any instant leaves the old file or the new one.

For bytes, and for files that another library writes (SQLite). Which folders may be used is decided in `opening`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError, reason_of
from registry_core.files.opening import Folder

__all__ = [
    "appearing",
    "discard_draft",
    "kept_aside",
    "place_draft",
    "refuse_existing",
    "remove_file",
    "replace_by_link",
    "replace_file",
    "sync_file",
    "write_draft",
]

_BESIDE = ("", "-wal", "-shm", "-journal", ".lock")  # files that a store makes beside its database


def replace_file(
    path: Path, content: bytes, mode: int = 0o600, *, durable: bool = True, owner: Optional[tuple[int, int]] = None
) -> None:
    """Replace `path` by `content` in one step: a draft beside it, fsync, rename, fsync of the folder.

    `durable` False skips both fsyncs: readers see the old file or the new one, but a power loss may leave neither.
    `owner` is a user id and a group id. A path may have one writer at a time: the draft's name is fixed, so that the
    draft of a killed writer is found and removed. Raises StoreError, and then the old file, if any, is unchanged.
    """
    write_draft(path, content, mode, durable=durable, owner=owner)
    place_draft(path, durable=durable)


def write_draft(
    path: Path, content: bytes, mode: int, *, durable: bool = True, owner: Optional[tuple[int, int]] = None
) -> None:
    """The first half of `replace_file`: all that needs disk space. Raises StoreError, and then leaves no draft."""
    draft = _draft_of(path)
    with _translated(path, "written"), Folder(path.parent) as folder:
        folder.unlink(draft)
        descriptor = folder.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _set_owner_and_mode(descriptor, mode, owner)
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(descriptor)
        except OSError:
            folder.unlink(draft)
            raise


def place_draft(path: Path, *, durable: bool = True) -> None:
    """The second half of `replace_file`: one rename. Raises StoreError, and then leaves no draft."""
    with _translated(path, "written"), Folder(path.parent) as folder:
        try:
            folder.rename(_draft_of(path), path.name)
            if durable:
                folder.sync()
        except OSError:
            folder.unlink(_draft_of(path))
            raise


def discard_draft(path: Path) -> None:
    """Remove the draft of a writer of `path` that was killed or failed, if there is one."""
    with contextlib.suppress(OSError), Folder(path.parent) as folder:
        folder.unlink(_draft_of(path))


def remove_file(path: Path) -> None:
    """Remove the file, if it exists, so that a power loss does not bring it back. Raises StoreError."""
    with _translated(path, "removed"), Folder(path.parent) as folder:
        folder.unlink(path.name)
        folder.sync()


def replace_by_link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target` in one step. Raises StoreError."""
    draft = _draft_of(path)
    with _translated(path, "written"), Folder(path.parent) as folder:
        folder.unlink(draft)
        folder.make_link(draft, target)
        folder.rename(draft, path.name)
        folder.sync()


@contextmanager
def appearing(target: Path, *, overwrite: bool, alone: bool = False) -> Iterator[Path]:
    """A path beside `target` to write to; at the end of the `with` it becomes `target`. On an error it is removed.

    Its name is random, so that no other process can put a journal beside it. `alone`: the caller holds the lock of
    `target`, so files that killed writers left are removed. Raises StoreError.
    """
    if not overwrite:
        refuse_existing(target)
    temporary = target.with_name(f".{target.stem}.{os.urandom(8).hex()}.partial{target.suffix}")
    with _translated(target, "written"), Folder(target.parent, make=True) as folder:
        if alone:
            _remove_leftovers(folder, target)
        try:
            os.close(folder.open(temporary.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            yield temporary
            sync_file(temporary)
            folder.rename(temporary.name, target.name)
            folder.sync()
        finally:
            for ending in _BESIDE:
                folder.unlink(temporary.name + ending)


def refuse_existing(target: Path) -> None:
    """Raises StoreError when `target` exists."""
    if os.path.lexists(target):
        raise StoreError(str(target), "already exists, and was not changed")


def kept_aside(path: Path, why: str) -> Path:
    """A name beside `path` for a copy of it, with the present time in it."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return path.with_name(f"{path.name}.{why}-{moment}")


def sync_file(path: Path) -> None:
    """Flush a file to the disk. Raises OSError."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft_of(path: Path) -> str:
    return f".{path.name}.tmp"


def _remove_leftovers(folder: Folder, target: Path) -> None:
    before, after = f".{target.stem}.", f".partial{target.suffix}"
    for name in [found.name for found in folder.path.iterdir()]:
        ending = next((ending for ending in _BESIDE if name.endswith(after + ending)), None)
        if ending is not None and name.startswith(before):
            folder.unlink(name)


def _set_owner_and_mode(descriptor: int, mode: int, owner: Optional[tuple[int, int]]) -> None:
    if sys.platform == "win32":
        return
    made = os.fstat(descriptor)
    if owner is not None and owner != (made.st_uid, made.st_gid):
        os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode)  # the umask may have removed bits


@contextmanager
def _translated(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(str(path), f"cannot be {doing}: {reason_of(error)}") from error
