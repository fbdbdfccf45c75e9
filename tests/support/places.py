"""The kinds of places in which a registry can be kept: the one list that the shared suites run over.

A new store is added here by one line and then has to pass what all others pass.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

from registry_core.storage.memory import MemoryStore
from registry_core.storage.open_store import open_store
from registry_core.storage.store import Store


class MemoryPlace:
    """Lasts as long as this object: opening again finds the same store."""

    path: Optional[Path] = None

    def __init__(self, _folder: Path) -> None:
        self._store = MemoryStore()

    def open(self) -> Store:
        return self._store


class FilePlace:
    """A file in a folder."""

    def __init__(self, path: Path, key: Optional[bytes] = None) -> None:
        self.path: Optional[Path] = path
        self._key = key

    def open(self, *, read_only: bool = False) -> Store:
        return open_store(self.path, self._key, read_only=read_only)


FILE_PLACES: dict[str, Callable[[Path], FilePlace]] = {
    "json": lambda folder: FilePlace(folder / "nodes.json"),
    "sqlite": lambda folder: FilePlace(folder / "nodes.db"),
}
SEALED_PLACES: dict[str, Callable[[Path], FilePlace]] = {
    "json-sealed": lambda folder: FilePlace(folder / "nodes.json", bytes(range(32))),
    "sqlite-sealed": lambda folder: FilePlace(folder / "nodes.db", bytes(range(32))),
}
ALL_PLACES: dict[str, Callable[[Path], object]] = {"memory": MemoryPlace, **FILE_PLACES, **SEALED_PLACES}

IRREGULAR = {"folder": "a directory", "pipe": "a named pipe", "socket": "a socket", "device": "a character device"}
"""What may lie where a registry is looked for, and how a refusal names it."""


@contextmanager
def irregular(path: Path, kind: str) -> Iterator[Path]:
    """One of `IRREGULAR` at `path`; gives what is there with links resolved."""
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/full")  # without end to a reader, as /dev/zero is
    else:
        os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "pipe" else stat.S_IFSOCK))
    yield path.resolve()
