"""Chooses and opens the store for the arguments of `NodeRegistry`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from registry_core.errors import ValidationError
from registry_core.storage.store import Store

if TYPE_CHECKING:
    from registry_core.storage.sealing import KeyRing
    from registry_core.storage.state_sum import SumKey

__all__ = ["checked_path", "open_store"]

SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def open_store(
    persistence_path: Optional[Union[str, os.PathLike[str]]],
    encryption_key: Optional[object],
    *,
    read_only: bool,
    own: bool = True,
    sum_key: Optional[bytes] = None,
) -> Store:
    """The store for the path's suffix; without a path, one in memory.

    `own` False: for a command with which root changes the registry of a service, whose folder another user owns.
    `sum_key`: 32 bytes; see `NodeRegistry`.
    """
    if not isinstance(read_only, bool):
        raise ValidationError("read_only", read_only, "must be true or false")
    if persistence_path is None:
        if read_only:
            raise ValidationError("read_only", read_only, "needs a persistence_path: there is no file to read")
        if encryption_key is not None:
            rule = "needs a persistence_path: a registry in memory is not sealed"
            raise ValidationError("encryption_key", "<not shown>", rule)
        from registry_core.storage.memory import MemoryStore

        return MemoryStore()
    path = checked_path(persistence_path)
    sums = None if sum_key is None else _sums(sum_key)
    keys = None if encryption_key is None else _keys(encryption_key)
    if path.suffix.lower() == ".json":
        from registry_core.storage.json_file import JsonFileStore

        return JsonFileStore(path, read_only=read_only, keys=keys, own=own)
    from registry_core.storage.sqlite.store import SqliteStore

    return SqliteStore(path, read_only=read_only, keys=keys, own=own, sum_key=sums)


def _keys(given: object) -> KeyRing:
    from registry_core.storage.sealing import KeyRing

    return KeyRing.of(given)


def _sums(given: object) -> SumKey:
    from registry_core.storage.state_sum import SUM_KEY_BYTES, SumKey

    if not isinstance(given, bytes) or len(given) != SUM_KEY_BYTES:
        raise ValidationError("sum_key", "<not shown>", f"must be {SUM_KEY_BYTES} bytes")
    return SumKey(given)


def checked_path(value: object) -> Path:
    """`value` as the path of a registry, checked for its suffix. Raises ValidationError."""
    rule = "must be a path, such as nodes.json"
    if not isinstance(value, (str, os.PathLike)):
        raise ValidationError("persistence_path", value, rule)
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValidationError("persistence_path", text, rule)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValidationError("persistence_path", text, rule) from None
    known = (".json", *SQLITE_SUFFIXES)
    if Path(text).suffix.lower() not in known:
        rule = f"must end in one of {', '.join(known)}: the suffix decides the file format"
        raise ValidationError("persistence_path", text, rule)
    return Path(text)
