"""The one way by which text gets to a terminal: whatever it holds is shown, and a terminal acts on none of it.

Names, reasons and problems come from nodes, coordinators and files. A rule of the linter keeps every other way closed
(`banned-api` in pyproject.toml). Not here: log records (`logs`), the agent's status line, what a line says.
"""

from __future__ import annotations

import sys

from registry_core.errors import printable

__all__ = ["say", "say_text"]


def say(*lines: str, err: bool = False) -> None:
    """Write lines to standard output, or to standard error. A line end inside one is escaped like any other control."""
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{printable(line)}\n" for line in lines))
    stream.flush()


def say_text(text: str, *, err: bool = False) -> None:
    """Write a text that has line ends of its own; what came from elsewhere in it was made one line before."""
    say(*text.rstrip("\n").split("\n"), err=err)
