"""The only output to a terminal. It escapes control characters, so that the terminal acts on nothing that it shows.

Names, reasons and problems come from nodes, coordinators and files. A rule of the linter forbids every other output
(`banned-api` in pyproject.toml). Not here: log records (`logs`) and the agent's status line.
"""

from __future__ import annotations

import sys
from typing import Callable

from registry_core.errors import printable

__all__ = ["is_terminal", "say", "say_text"]


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def say(*lines: str, err: bool = False, paint: Callable[[str], str] = str) -> None:
    """Write lines to standard output or standard error. A line end inside a line is escaped like any other control.

    `paint` adds colours to a line that has been escaped, and nothing else.
    """
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{paint(printable(line))}\n" for line in lines))
    stream.flush()


def say_text(text: str, *, err: bool = False) -> None:
    """Write a text of several lines. Any part of it that comes from elsewhere must already be a single line."""
    say(*text.rstrip("\n").split("\n"), err=err)
