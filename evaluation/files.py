"""Reading what the evaluations read: rating networks, labels and availability traces.

Here: formats, and errors that name file and line. Not here: what is computed from them.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, TextIO

__all__ = ["BadFileError", "Host", "Network", "Trace", "read_labels", "read_network", "read_trace", "sha256_of"]

_SCALES = (1.0, 5.0, 10.0, 100.0)

Rating = tuple[str, str, float, float]


class BadFileError(Exception):
    """A data file that cannot be understood. The text names the file, the line and the rule."""

    def __init__(self, path: Path, line: Optional[int], rule: str) -> None:
        super().__init__(path, line, rule)
        self.path = path
        self.line = line
        self.rule = rule

    def __str__(self) -> str:
        place = f"{self.path}" if self.line is None else f"{self.path}, line {self.line}"
        return f"{place}: {self.rule}"


@dataclass(frozen=True)
class Network:
    """(source, target, rating from −1 to 1, time) in order of time, each pair once (the latest), none of oneself."""

    ratings: tuple[Rating, ...]
    scale: float
    self_ratings: int
    repeated_pairs: int
    sha256: str

    @property
    def nodes(self) -> set[str]:
        """Everybody who rates or is rated."""
        return {name for rating in self.ratings for name in rating[:2]}

    def earliest_raters(self, count: int) -> list[str]:
        """The `count` raters whose first rating is oldest."""
        return list(dict.fromkeys(rating[0] for rating in self.ratings))[:count]


@dataclass(frozen=True)
class Host:
    """(start, end) in seconds of the times that a host was up: sorted, apart from each other."""

    name: str
    up: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Trace:
    """All hosts of a trace and its span in seconds."""

    hosts: tuple[Host, ...]
    start: float
    end: float
    sha256: str


def read_network(path: Path, scale: Optional[float] = None) -> Network:
    """A CSV file `source,target,rating,time` without header (.gz and .xz too). Raises BadFileError.

    Ratings are divided by `scale`; without it, by the least of 1, 5, 10 and 100 that no rating exceeds. 0 must mean
    "no opinion": a scale without negative ratings is read as praise only.
    """
    given: list[Rating] = []
    own = 0
    for number, line in _lines(path):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 4 or not parts[0] or not parts[1]:
            raise BadFileError(path, number, "must be source,target,rating,time")
        value = _number(path, number, "rating", parts[2])
        when = _number(path, number, "time", parts[3])
        if parts[0] == parts[1]:
            own += 1
        else:
            given.append((parts[0], parts[1], value, when))
    if not given:
        raise BadFileError(path, None, "holds no rating of one node by another")
    largest = max(abs(rating[2]) for rating in given)
    chosen = scale or next((step for step in _SCALES if largest <= step), largest)
    if largest > chosen:
        raise BadFileError(path, None, f"holds a rating of {largest:g}, beyond the scale of {chosen:g}")
    given.sort(key=lambda rating: rating[3])
    latest = {(source, target): (value / chosen, when) for source, target, value, when in given}
    ratings = sorted(((*pair, *said) for pair, said in latest.items()), key=lambda rating: rating[3])
    return Network(tuple(ratings), chosen, own, len(given) - len(ratings), sha256_of(path))


def read_labels(path: Path) -> dict[str, bool]:
    """A CSV file `node,label`, 1 benign, -1 fraudulent, as node → fraudulent. Raises BadFileError."""
    labels: dict[str, bool] = {}
    for number, line in _lines(path):
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 2 or not parts[0] or parts[1] not in ("1", "+1", "-1"):
            raise BadFileError(path, number, "must be node,label with the label 1 (benign) or -1 (fraudulent)")
        fraudulent = parts[1] == "-1"
        if labels.setdefault(parts[0], fraudulent) != fraudulent:
            raise BadFileError(path, number, f"labels {parts[0]} otherwise than an earlier line")
    if set(labels.values()) != {True, False}:
        raise BadFileError(path, None, "must label at least one node benign and one fraudulent")
    return labels


def read_trace(path: Path) -> Trace:
    """An availability trace: on each line a host's id, n, and n pairs of start and end. Raises BadFileError.

    Times that touch or overlap are one; times of no length are dropped.
    """
    hosts = []
    for number, line in _lines(path):
        name, *rest = line.split()
        if not rest:
            raise BadFileError(path, number, "must be id, n, then n pairs of start and end")
        times = [_number(path, number, "a time", text) for text in rest]
        if times[0] != len(rest[1:]) / 2:
            raise BadFileError(path, number, f"says {rest[0]} pairs and holds {len(rest) - 1} times")
        hosts.append(Host(name, _intervals(path, number, times[1:])))
    ends = [host.up[-1][1] for host in hosts if host.up]
    if not ends:
        raise BadFileError(path, None, "holds no time in which a host was up")
    return Trace(tuple(hosts), min(host.up[0][0] for host in hosts if host.up), max(ends), sha256_of(path))


def _intervals(path: Path, number: int, times: list[float]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(zip(times[::2], times[1::2])):
        if end < start:
            raise BadFileError(path, number, f"has a time that ends ({end:g}) before it starts ({start:g})")
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return tuple(joined)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers."""
    number = None
    try:
        with _opened(path) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadFileError(path, None, error.strerror or str(error)) from None
    except (UnicodeDecodeError, EOFError, lzma.LZMAError) as error:
        raise BadFileError(path, number, f"cannot be read further: {error}") from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _number(path: Path, line: int, what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadFileError(path, line, f"{what} must be a number, not {text[:40]!a}")
    return value


def sha256_of(path: Path) -> str:
    """The digest of the file as it lies there."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
