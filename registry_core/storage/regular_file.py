"""What may lie at the path of a registry: a regular file, or nothing.

Here: one look, before anything is opened or made beside it. A pipe would keep its reader waiting, a device has no end,
and the lock of `/dev/zero` would be made in `/dev`. Not here: what is in the file.
"""

from __future__ import annotations

import stat
from pathlib import Path

from registry_core.errors import StoreError

__all__ = ["refuse_irregular"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def refuse_irregular(path: Path, location: str) -> None:
    """Raises StoreError, naming `location`, where something else than a regular file is at `path`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(location, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "of an unknown kind")
        raise StoreError(location, f"cannot be read: it is no regular file, but {kind}")
