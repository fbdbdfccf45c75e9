"""Reads SQLite's write-ahead log without SQLite: which commits in it are valid, and what follows them.

The file format is that of sqlite.org/fileformat2.html, section 4. SQLite silently skips a damaged tail: it uses the
frames up to the last valid commit and ignores the rest. This module reports what it ignores. It writes nothing and
takes no lock.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

from registry_core.files.opening import open_regular

__all__ = ["WalReport", "scan_wal"]

_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MAGIC_LITTLE = 0x377F0682
_MAGIC_BIG = 0x377F0683
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class WalReport:
    """The content of the log of one database.

    `whole_commits` counts the commits of which every frame matches its checksum. After them there may be frames of an
    unfinished commit (`unfinished_frames`), and `broken_frames` that do not match, with `commits_behind` commit marks
    among them. A process that is killed while it writes leaves at most one mark, of a commit that was not yet
    acknowledged. A second mark is written only after the first commit was acknowledged, so each further mark is a
    commit that was lost.
    """

    whole_commits: int = 0
    whole_frames: int = 0
    unfinished_frames: int = 0
    broken_frames: int = 0
    commits_behind: int = 0
    header_damaged: bool = False

    @property
    def has_damaged_tail(self) -> bool:
        """Whether frames after the last valid commit fail their checksum."""
        return self.broken_frames > 0 or self.header_damaged

    @property
    def commits_surely_lost(self) -> int:
        """The minimum number of acknowledged commits that are lost."""
        return max(0, self.commits_behind - 1)

    def tail_text(self) -> str:
        """A description of the damaged tail, for people."""
        if self.header_damaged:
            return "the header of the write-ahead log is damaged, so none of it can be used"
        frames = "1 damaged frame" if self.broken_frames == 1 else f"{self.broken_frames} damaged frames"
        what = f"the write-ahead log ends in {frames}"
        if self.commits_surely_lost:
            lost = "commit is" if self.commits_surely_lost == 1 else "commits are"
            return f"{what}: at least {self.commits_surely_lost} acknowledged {lost} lost"
        return f"{what}: the last commit is damaged, or its process was killed while it wrote"


def scan_wal(path: Path) -> WalReport:
    """Read the log at `path` (`<database>-wal`); a missing or empty one has no content. Raises StoreError, OSError."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            return _scan(file)
    except FileNotFoundError:
        return WalReport()


def _scan(file: BinaryIO) -> WalReport:
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return WalReport(header_damaged=len(header) > 0)
    magic, _version, page_bytes, _sequence, salt1, salt2, sum1, sum2 = struct.unpack(">8I", header)
    order = {_MAGIC_LITTLE: "<", _MAGIC_BIG: ">"}.get(magic)
    page_is_sane = 512 <= page_bytes <= 65536 and page_bytes & (page_bytes - 1) == 0
    if order is None or not page_is_sane or _checksum(order, header[:24], (0, 0)) != (sum1, sum2):
        return WalReport(header_damaged=True)
    return _scan_frames(file, order, page_bytes, struct.pack(">2I", salt1, salt2), (sum1, sum2))


def _scan_frames(file: BinaryIO, order: str, page_bytes: int, salts: bytes, start: tuple[int, int]) -> WalReport:
    frames = commits = whole_frames = good_frames = commits_behind = 0
    running: Optional[tuple[int, int]] = start
    while True:
        frame = file.read(_FRAME_HEADER_BYTES + page_bytes)
        if len(frame) < _FRAME_HEADER_BYTES:
            break
        is_commit = frame[4:8] != b"\0\0\0\0"
        has_salts = frame[8:16] == salts
        if running is not None:
            running = _checksum(order, frame[:8] + frame[_FRAME_HEADER_BYTES:], running)
            fits = running == struct.unpack(">2I", frame[16:24])
            if not fits or not has_salts:
                running = None  # checksums are chained: no later frame can be trusted
        else:
            fits = False
        if not has_salts and not fits:
            break  # frames of an earlier generation of the log; if the checksum fits, only the salts are damaged
        frames += 1
        if running is None:
            commits_behind += is_commit
            continue
        good_frames = frames
        if is_commit:
            commits, whole_frames = commits + 1, frames
    return WalReport(commits, whole_frames, good_frames - whole_frames, frames - good_frames, commits_behind)


def _checksum(order: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum over pairs of 32-bit words; about 0.1 ms a page."""
    if len(data) % 8:
        return (-1, -1)  # a truncated frame: equal to no checksum
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    s0, s1 = start
    for x0, x1 in zip(words, words):
        s0 = (s0 + x0 + s1) & _MASK
        s1 = (s1 + x1 + s0) & _MASK
    return s0, s1
