"""Plain columns and `name: value` lines for people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Union

from duxnet.cli.colour import painted
from duxnet.process.terminal import say, say_text
from registry_core.errors import printable

__all__ = ["age_text", "print_json", "print_pairs", "print_table", "time_text", "value_text"]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")  # as `registry_core.models.times` writes it


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print columns two spaces apart, as wide as their widest cell. Columns named in `right` are right-aligned.

    The column STATE is in colour.
    """
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]  # before the widths
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    start = end = 0
    if "STATE" in header:
        column = header.index("STATE")
        start = sum(width + 2 for width in widths[:column])
        end = start + widths[column]
    for number, line in enumerate(lines):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width) for cell, width, name in zip(line, widths, header)
        )
        text = "  ".join(cells).rstrip()
        say(text, paint=partial(painted, start=start, end=end) if number else str)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print a line for each pair, with the values aligned. A name in capitals, such as PROBLEM, is in colour."""
    shown = [(printable(name), printable(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        paint = partial(painted, start=0, end=len(name)) if name.isupper() else str
        say(f"{name.ljust(width)}  {value}".rstrip(), paint=paint)


def print_json(plain: object) -> None:
    """Print JSON for programs: indented, and in ASCII only, so that no terminal acts on a name."""
    say_text(json.dumps(plain, indent=2))


def age_text(seconds: float) -> str:
    """A duration as people read it: `3 s`, `4 min`, `5 h` or `6 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def time_text(moment: Union[float, str]) -> str:
    """A time as every command shows it, from Unix seconds or from a longer text: `2026-12-24T18:00:00Z`."""
    if isinstance(moment, str):
        return f"{moment[:19]}Z" if len(moment) > 19 else moment
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def value_text(value: object) -> str:
    """A value of JSON as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    if isinstance(value, str) and _TIME.fullmatch(value):
        return time_text(value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)
