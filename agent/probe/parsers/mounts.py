"""Parser of /proc/self/mountinfo: what is mounted where, from which device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

__all__ = ["Mount", "mount_of", "mounts"]

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount. `device` is major:minor. `super_options` belong to the file system, not to this mount: a
    hardened service has `ro` among its mount options although the disk is writable.
    """

    device: str
    root: str
    mount_point: str
    fstype: str
    origin: str
    super_options: tuple[str, ...]


def mounts(text: Optional[str]) -> Iterator[Mount]:
    """All valid lines, in the kernel's order: a later mount hides an earlier one at the same point."""
    for line in (text or "").splitlines():
        left, separator, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if not separator or len(before) < 6 or len(after) < 2:
            continue
        yield Mount(
            before[2],
            _unescaped(before[3]),
            _unescaped(before[4]),
            after[0],
            _unescaped(after[1]),
            tuple(after[2].split(",")) if len(after) > 2 else (),
        )


def mount_of(path: str, candidates: list[Mount]) -> Optional[Mount]:
    """The mount of an absolute path without links: the longest mount point, the last of equals."""
    best: Optional[Mount] = None
    for mount in candidates:
        point = mount.mount_point
        inside = point == "/" or path == point or path.startswith(point + "/")
        if inside and (best is None or len(point) >= len(best.mount_point)):
            best = mount
    return best


def _unescaped(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text
