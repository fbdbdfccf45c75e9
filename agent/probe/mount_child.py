"""Makes one query of a path that may never be answered, in a separate process: run by path.

    python -I -S mount_child.py SECONDS disk_usage|nearest_existing PATH

Writes one JSON value, or {"errno": number}. It holds nothing but its pipe, so that a child that the kernel never
releases keeps no resource of the agent. The answers are those of `system_calls`, which uses it if a mount may hang.
"""

from __future__ import annotations

import os
import signal
import stat
import sys

if __name__ == "__main__":
    signal.alarm(int(sys.argv[1]))  # ends it if the parent is gone

__all__ = ["directory", "sizes"]


def sizes(path: str) -> dict[str, int]:
    """Bytes by psutil's names, and inodes, from statvfs: this process does not load psutil."""
    stats = os.statvfs(path)
    return {
        "total": stats.f_blocks * stats.f_frsize,
        "used": (stats.f_blocks - stats.f_bfree) * stats.f_frsize,
        "free": stats.f_bavail * stats.f_frsize,
        "inodes": stats.f_files,
        "inodes_available": stats.f_favail,
    }


def directory(path: str) -> str:
    """`path` without links, or its nearest existing parent, which must be a folder that this process may read.

    Raises OSError for a file and if access is denied.
    """
    resolved = os.path.realpath(path)  # Path.resolve raises for a link to itself
    wanted = resolved
    while True:
        try:
            mode = os.stat(resolved).st_mode  # noqa: PTH116 - as below
            break
        except FileNotFoundError:
            parent = os.path.dirname(resolved)  # noqa: PTH120 - pathlib costs more than the query
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
