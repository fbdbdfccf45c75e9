"""The registry as one JSON file that a person can read and write.

Here: when the file is read and replaced. Not here: what the text means (`json_text`), the lock (`lock`).
Each commit rewrites the whole file: right for some hundreds of nodes; beyond that SQLite is the better place.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

from registry_core.errors import DamagedStoreError, ReadOnlyError, StoreError
from registry_core.files.locks import WriterLock
from registry_core.models.record import NodeRecord
from registry_core.models.status import Sampled
from registry_core.storage.json_text import FileContent, NodeTexts, read_content
from registry_core.storage.regular_file import refuse_irregular
from registry_core.storage.sealed_file import FileSeal
from registry_core.storage.sealing import KeyRing
from registry_core.storage.store import Change, Put, Row, Store

__all__ = ["JsonFileStore"]

_log = logging.getLogger(__name__)

MANY_NODES = 2_000
"""From here on a rewrite takes long enough (tens of milliseconds) that its user should know the way to SQLite."""

_Signature = tuple[int, int, int]


class JsonFileStore(Store):
    """Records in memory, and the whole of them in a file that is replaced on each commit."""

    def __init__(self, path: Path, *, read_only: bool = False, keys: Optional[KeyRing] = None) -> None:
        self.read_only = read_only
        self._path = Path(os.path.realpath(path))  # a symbolic link stays one: its target is replaced
        self.location = str(path)
        self._texts = NodeTexts()
        self._seal = FileSeal(self.location, keys)
        self._warned = False
        self._lock: Optional[WriterLock] = None
        if not read_only:
            self._make_folder()
            self._lock = WriterLock(self._path, self.location)
        try:
            self._content, self._signature = self._read()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[Row]:
        """In order of registration."""
        content = self._content
        ordered = sorted(content.puts.items(), key=lambda item: item[1].columns.sequence)
        down = content.down
        return iter([Row(put.columns, content.samples.get(node_id), node_id in down) for node_id, put in ordered])

    def read(self, node_id: str, sequence: Optional[int] = None) -> Optional[NodeRecord]:  # noqa: ARG002 - no need of it
        """One look-up."""
        put = self._content.puts.get(node_id)
        return None if put is None else put.record

    def read_many(self, node_ids: Sequence[str]) -> list[Optional[NodeRecord]]:
        """One look-up each."""
        return [self.read(node_id) for node_id in node_ids]

    def meta(self, key: str) -> Optional[str]:
        """One look-up."""
        return self._content.meta.get(key)

    def all_meta(self) -> dict[str, str]:
        """A copy."""
        return dict(self._content.meta)

    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """One rewrite of the file, whatever the number of changes."""
        puts, samples, down = dict(self._content.puts), dict(self._content.samples), set(self._content.down)
        for change in changes:
            node_id = change.columns.node_id if isinstance(change, Put) else change.node_id
            self._texts.forget(node_id)
            if isinstance(change, Put):
                puts[node_id] = change
            else:
                puts.pop(node_id, None)
                samples.pop(node_id, None)
                down.discard(node_id)
        merged: dict[str, Optional[str]] = {**self._content.meta, **meta}
        kept = {key: value for key, value in merged.items() if value is not None}
        try:
            self._replace(FileContent(puts, samples, kept, self._content.schema, self._content.beside, down))
        except BaseException:
            self._texts.clear()  # they may hold what was not committed
            raise
        self._warn_when_large()

    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:  # noqa: ARG002 - always done on return
        """One rewrite of the file; none when nothing changed."""
        content = self._content
        merged, down = dict(content.samples), set(content.down)
        for node_id, sample, is_down in samples:
            if node_id not in content.puts or (merged.get(node_id) == sample and (node_id in down) == is_down):
                continue
            merged[node_id] = sample
            (down.add if is_down else down.discard)(node_id)
            self._texts.forget(node_id)
        if merged != content.samples or down != content.down:
            self._replace(content._replace(samples=merged, down=down))

    def refresh(self) -> bool:
        """One `stat`; the file is read when that shows another one."""
        if self._signature == self._stat():
            return False
        self._content, self._signature = self._read()
        self._texts.clear()
        return True

    def rewrap(self) -> int:
        """Seal the file anew with the newest key; returns how many nodes are in it. Raises SealedStoreError."""
        self._seal.refuse_clear()
        self._replace(self._content)
        return len(self._content.puts)

    def close(self) -> None:
        """Release the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _make_folder(self) -> None:
        try:
            missing = [parent for parent in self._path.parents if not parent.exists()]
            for parent in reversed(missing):
                parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(self.location, f"its folder cannot be made: {error.strerror}") from error

    def _stat(self) -> Optional[_Signature]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(self.location, f"cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[FileContent, Optional[_Signature]]:
        signature = self._stat()
        if signature is None:
            if self.read_only:
                raise StoreError(self.location, "does not exist; a registry is made by opening it for writing")
            return FileContent({}, {}, {}), None
        try:
            refuse_irregular(self._path, self.location)
            raw = self._path.read_bytes()
        except OSError as error:
            raise StoreError(self.location, f"cannot be read: {error.strerror}") from error
        try:
            return read_content(self.location, self._seal.opened(raw)), signature
        except (RecursionError, MemoryError):
            raise DamagedStoreError(self.location, "it is nested too deeply or too large to be a registry") from None

    def _replace(self, content: FileContent) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.location} is open for reading only")
        if self._lock is None:
            raise StoreError(self.location, "was closed")
        temporary = self._path.with_name(self._path.name + ".tmp")  # one name is enough: we hold the lock
        try:
            data = self._seal.sealed(self._texts.file(content))
            self._write_durably(temporary, data)
            self._keep_edit()
            temporary.replace(self._path)
            _flush_folder(self._path.parent)
            self._signature = self._stat()
        except OSError as error:
            _remove(temporary)
            raise StoreError(self.location, f"cannot be written: {error.strerror}; nothing was changed") from error
        self._content = content

    def _keep_edit(self) -> None:
        """Keep what another hand wrote into the file since it was read: a commit must not swallow it."""
        found = self._stat()
        if found is None or found == self._signature or not self._path.is_file():  # a pipe holds nothing to keep
            return
        kept = self._path.with_name(f"{self._path.stem}.edited-{time.time_ns() // 1_000_000}{self._path.suffix}")
        self._write_durably(kept, self._path.read_bytes())
        _log.warning(
            "%s was changed by another hand while it was in use; what that hand wrote is kept as %s, since the "
            "registry in memory is written over it. Stop its owner before editing it",
            self.location,
            kept,
        )

    @staticmethod
    def _write_durably(path: Path, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(path, flags, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _warn_when_large(self) -> None:
        if not self._warned and len(self._content.puts) >= MANY_NODES:
            self._warned = True
            _log.warning(
                "%s holds %d nodes and is rewritten on each change; a path that ends in .db keeps the registry in "
                "SQLite, which writes only what changed: duxnet registry migrate %s nodes.db",
                self.location,
                len(self._content.puts),
                self.location,
            )


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there; the rename is as durable as it gets
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        _log.debug("%s could not be removed; the next commit writes over it", path)
