"""The registry as one JSON file that a person can read and edit.

This module decides when the file is read and replaced; `json_text` reads and writes the text. Each commit rewrites the
whole file, which suits some hundreds of nodes; beyond that SQLite is better.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

from registry_core.errors import DamagedStoreError, ReadOnlyError, StoreError, reason_of
from registry_core.files.atomic import discard_draft, kept_aside, place_draft, replace_file, write_draft
from registry_core.files.locks import PidLock, lock_beside
from registry_core.files.opening import own_place, read_regular
from registry_core.models.columns import Columns
from registry_core.models.record import NodeRecord
from registry_core.models.status import Sampled
from registry_core.storage.json_text import SCHEMA, FileContent, NodeTexts, check_read_back, read_content
from registry_core.storage.sealed_file import FileSeal
from registry_core.storage.sealing import KeyRing
from registry_core.storage.store import Bury, Change, Delete, Put, Row, Store, Unreadable
from registry_core.storage.tombstones import StoredTombstone, TombstoneKey

__all__ = ["JsonFileStore"]

_log = logging.getLogger(__name__)

MANY_NODES = 2_000
"""From this number on a rewrite takes tens of milliseconds, so the log recommends SQLite."""

_Signature = tuple[int, int, int]


class JsonFileStore(Store):
    """Holds all records in memory, and replaces the whole file on each commit."""

    def __init__(
        self, path: Path, *, read_only: bool = False, keys: Optional[KeyRing] = None, own: bool = True
    ) -> None:
        self.read_only = read_only
        # a symbolic link stays a link: its target is replaced
        self._path = Path(os.path.realpath(path)) if read_only else own_place(path, "the folder of a registry", own=own)
        self.location = str(path)
        self._texts = NodeTexts()
        self._seal = FileSeal(self.location, keys)
        self._warned = False
        self._owner = None if own else _owner_of(self._path)  # the file of a service stays the service's
        self._logged_nodes: set[str] = set()
        self._lock: Optional[PidLock] = None if read_only else lock_beside(self._path)
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

    def read_many(
        self,
        node_ids: Sequence[str],
        unreadable: Optional[Unreadable] = None,  # noqa: ARG002 - none is damaged
    ) -> list[Optional[NodeRecord]]:
        """One look-up each."""
        return [self.read(node_id) for node_id in node_ids]

    def columns(self, node_id: str) -> Optional[Columns]:
        """One look-up."""
        put = self._content.puts.get(node_id)
        return None if put is None else put.columns

    def meta(self, key: str) -> Optional[str]:
        """One look-up."""
        return self._content.meta.get(key)

    def all_meta(self) -> dict[str, str]:
        """A copy."""
        return dict(self._content.meta)

    def tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """One look-up."""
        return self._content.removed.get(key)

    def tombstones(self) -> Iterator[StoredTombstone]:
        """All of them."""
        return iter(self._content.removed)

    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """One rewrite of the file, whatever the number of changes."""
        for change in changes:
            if isinstance(change, Put):
                check_read_back(self.location, change.record, self._content.schema)
        puts, samples, down = dict(self._content.puts), dict(self._content.samples), set(self._content.down)
        removed = self._content.removed
        if any(not isinstance(change, (Put, Delete)) for change in changes):
            removed = removed.copy()
        for change in changes:
            if isinstance(change, Put):
                self._texts.forget(change.columns.node_id)
                puts[change.columns.node_id] = change
            elif isinstance(change, Delete):
                self._texts.forget(change.node_id)
                puts.pop(change.node_id, None)
                samples.pop(change.node_id, None)
                down.discard(change.node_id)
            elif isinstance(change, Bury):
                removed.put(change.tombstone)
            else:
                removed.remove(change.key)
        merged: dict[str, Optional[str]] = {**self._content.meta, **meta}
        given = {key: value for key, value in merged.items() if value is not None}
        try:
            schema, beside = self._content.schema, self._content.beside
            self._replace(FileContent(puts, samples, given, schema, beside, down, removed=removed))
        except BaseException:
            self._texts.clear()  # they may hold uncommitted changes
            raise
        self._warn_when_large()

    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:  # noqa: ARG002 - always done on return
        """One rewrite of the file, or none when nothing changed."""
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
        """One `stat`; the file is read again when that shows a change."""
        if self._signature == self._stat():
            return False
        self._content, self._signature = self._read()
        self._texts.clear()
        return True

    def rewrap(self) -> int:
        """Seal the file with the newest key; returns the number of its nodes. Raises SealedStoreError."""
        self._seal.refuse_clear()
        self._replace(self._content)
        return len(self._content.puts)

    def close(self) -> None:
        """Release the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _stat(self) -> Optional[_Signature]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(self.location, f"cannot be read: {reason_of(error)}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[FileContent, Optional[_Signature]]:
        signature = self._stat()
        if signature is None:
            if self.read_only:
                raise StoreError(self.location, "does not exist; opening it for writing creates it")
            return FileContent({}, {}, {}), None
        try:
            raw = read_regular(self._path)
        except OSError as error:
            raise StoreError(self.location, f"cannot be read: {reason_of(error)}") from error
        try:
            content = read_content(self.location, self._seal.opened(raw))
            for node_id, dropped in content.dropped.items():
                self._log_dropped(node_id, dropped)
            return content, signature
        except (RecursionError, MemoryError):
            raise DamagedStoreError(self.location, "it is too deeply nested or too large for a registry") from None

    def _log_dropped(self, node_id: str, dropped: Sequence[str]) -> None:
        if node_id not in self._logged_nodes:
            from registry_core.storage.older_records import log_dropped

            self._logged_nodes.add(node_id)
            log_dropped(self.location, node_id, dropped)

    def _keep_older(self) -> None:
        """Copy a file of an older schema before it is replaced by one of today's."""
        older = self._content.older
        aside = kept_aside(self._path, "schema-" + older.rpartition("/")[2])
        replace_file(aside, read_regular(self._path))
        _log.warning(
            "%s is upgraded from %s to %s; the old file is kept as %s", self.location, older, SCHEMA, aside.name
        )

    def _replace(self, content: FileContent) -> None:
        if self.read_only:
            raise ReadOnlyError(f"{self.location} is open read-only")
        if self._lock is None:
            raise StoreError(self.location, "was closed")
        write_draft(self._path, self._seal.sealed(self._texts.file(content)), 0o600, owner=self._owner)
        try:
            if self._content.older:
                self._keep_older()
            self._keep_edit()
        except BaseException:
            discard_draft(self._path)
            raise
        place_draft(self._path)
        self._signature = self._stat()
        self._content = content._replace(older="", dropped={})

    def _keep_edit(self) -> None:
        """Copy the file if someone edited it since it was read, so that a commit does not destroy the edit."""
        found = self._stat()
        if found is None or found == self._signature or not self._path.is_file():  # nothing to keep in a pipe
            return
        kept = self._path.with_name(f"{self._path.stem}.edited-{time.time_ns() // 1_000_000}{self._path.suffix}")
        replace_file(kept, read_regular(self._path))
        _log.warning(
            "%s was edited while it was in use; the edited file is kept as %s, and the registry in memory replaces "
            "it. Stop the process that uses the file before editing it",
            self.location,
            kept,
        )

    def _warn_when_large(self) -> None:
        if not self._warned and len(self._content.puts) >= MANY_NODES:
            self._warned = True
            _log.warning(
                "%s holds %d nodes and is rewritten on each change; SQLite (a path that ends in .db) writes only what "
                "changed. To convert it: duxnet registry migrate %s nodes.db",
                self.location,
                len(self._content.puts),
                self.location,
            )


def _owner_of(path: Path) -> Optional[tuple[int, int]]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_uid, found.st_gid
