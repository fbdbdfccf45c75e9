"""Asks one question about a path that may never be answered, in a process of its own: run by path, never imported.

    python -I -S mount_child.py SECONDS disk_usage|nearest_existing PATH

Writes one JSON value, or {"errno": number}. It holds nothing but its pipe, so that one that the kernel keeps for ever
keeps nothing of the agent's. The answers are those of `system_calls`, which asks here where a mount may hang.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

if __name__ == "__main__":
    signal.alarm(int(sys.argv[1]))  # ends it where nobody is left to end it

__all__ = ["directory", "sizes"]


def sizes(path: str) -> dict[str, int]:
    """Bytes by psutil's names, and inodes, by statvfs: there is no psutil in this process."""
    told = os.statvfs(path)
    return {
        "total": told.f_blocks * told.f_frsize,
        "used": (told.f_blocks - told.f_bfree) * told.f_frsize,
        "free": told.f_bavail * told.f_frsize,
        "inodes": told.f_files,
        "inodes_available": told.f_favail,
    }


def directory(path: str) -> str:
    """`path` without links, or its nearest parent that exists, which must be a folder that this process may enter.

    Raises OSError for a file, and where it may not be looked at.
    """
    resolved = os.path.realpath(path)  # Path.resolve raises where a link leads to itself
    wanted = resolved
    while True:
        try:
            mode = os.stat(resolved).st_mode  # noqa: PTH116 - as below
            break
        except FileNotFoundError:
            parent = os.path.dirname(resolved)  # noqa: PTH120 - pathlib costs this process more than its question
            if parent == resolved:
                raise
            resolved = parent
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(20, os.strerror(20))
    if resolved == wanted and not os.access(resolved, os.R_OK | os.X_OK):
        raise PermissionError(13, os.strerror(13))
    return resolved


def main(question: str, path: str) -> None:
    """Write the answer."""
    import json

    answer: object
    try:
        answer = sizes(path) if question == "disk_usage" else directory(path)
    except OSError as error:
        answer = {"errno": error.errno}
    os.write(1, json.dumps(answer).encode())


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3])
