"""Plain columns and `name: value` lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from duxnet.process.terminal import say, say_text
from registry_core.errors import printable

__all__ = ["age_text", "print_json", "print_pairs", "print_table"]


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Columns two spaces apart, as wide as their widest cell; those named in `right` end flush."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]  # first: escapes take room
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width) for cell, width, name in zip(line, widths, header)
        )
        say("  ".join(cells).rstrip())


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """A line for each pair, the values below each other."""
    shown = [(printable(name), printable(value)) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name.ljust(width)}  {value}".rstrip())


def print_json(plain: object) -> None:
    """For programs: indented, and ASCII only, so that no terminal acts on a name."""
    say_text(json.dumps(plain, indent=2))


def age_text(seconds: float) -> str:
    """`3 s`, `4 min`, `5 h`, `6 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
