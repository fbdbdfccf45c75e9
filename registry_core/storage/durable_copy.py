"""A new file that appears whole or not at all, and survives power loss once it is there.

Here: temporary name, flush, rename, flush of the folder. Not here: what is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_core.errors import StoreError

__all__ = ["appearing", "refuse_existing", "sync"]


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
