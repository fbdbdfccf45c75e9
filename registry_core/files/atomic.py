"""One small file, written so that a crash at any instant leaves the old one or the new one, never a part.

Here: bytes into a folder. Not here: what they mean, and the registry's own data (`registry_core.storage`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError

__all__ = ["appearing", "refuse_existing", "sync"]


def reason_of(error: OSError) -> str:
    """The system's own words for what went wrong, such as `No space left on device`."""
    return error.strerror or type(error).__name__


def write_durably(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` by `content`: temporary file beside it, fsync, rename, fsync of the folder.

    One writer at a time, held by `locked_folder`: the temporary name is fixed, so that what a killed writer
    left is found and removed. Raises StoreError; the old file, or its absence, is unchanged then.
    """
    write_draft(path, content, mode)
    place_draft(path)


def write_draft(path: Path, content: bytes, mode: int, owner: Optional[tuple[int, int]] = None) -> None:
    """The first half of `write_durably`: all that can need room on the disk. `owner` is a user id and a group id.

    Raises StoreError; no draft is left then.
    """
    draft = _draft_of(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                made = os.fstat(descriptor)
                if owner is not None and owner != (made.st_uid, made.st_gid):
                    os.fchown(descriptor, *owner)
                os.fchmod(descriptor, mode)  # the umask may have taken bits away
                stream.write(content)
                stream.flush()
                os.fsync(descriptor)
        except OSError:
            discard_draft(path)
            raise
    except OSError as error:
        raise StoreError(str(path), f"cannot be written: {reason_of(error)}") from error


def place_draft(path: Path) -> None:
    """The second half of `write_durably`: one rename. Raises StoreError; no draft is left then."""
    try:
        os.replace(_draft_of(path), path)  # noqa: PTH105 - beside os.open and os.fsync
        _sync_folder(path.parent)
    except OSError as error:
        discard_draft(path)
        raise StoreError(str(path), f"cannot be written: {reason_of(error)}") from error


def discard_draft(path: Path) -> None:
    """Remove what a writer of `path` that was killed or failed has left, if anything."""
    with contextlib.suppress(OSError):
        _draft_of(path).unlink()


def remove_durably(path: Path) -> None:
    """Remove the file, if it is there, so that no power loss brings it back. Raises StoreError."""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(str(path), f"cannot be removed: {reason_of(error)}") from error


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder waiting; a process that dies lets go of it."""
    import fcntl  # not on Windows, where nothing here is needed but importing must work

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(str(folder), f"cannot be opened: {reason_of(error)}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def appearing(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A path beside `target` to write to; at the end of the `with` it becomes `target`. On an error it is removed."""
    if not overwrite:
        refuse_existing(target)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        _remove(temporary)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise StoreError(str(target), f"cannot be written: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def refuse_existing(target: Path) -> None:
    """Raises StoreError when something is there already."""
    if os.path.lexists(target):
        raise StoreError(str(target), "is there already; it is left as it is")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk. Raises OSError."""
    if os.name == "nt" and path.is_dir():  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(temporary: Path) -> None:
    for name in (temporary.name, temporary.name + "-wal", temporary.name + "-shm", temporary.name + "-journal"):
        temporary.with_name(name).unlink(missing_ok=True)
    temporary.with_name(temporary.name + ".lock").unlink(missing_ok=True)  # nobody else knows this name
