"""Writes all output to the terminal, and escapes control characters so that no text can control the terminal.

Names, reasons and problems come from nodes, coordinators and files. A linter rule forbids all other output
(`banned-api` in pyproject.toml). Not here: log records (`logs`) and the agent's status line.
"""

from __future__ import annotations

import sys
from typing import Callable

from registry_core.errors import printable

__all__ = ["is_terminal", "say", "say_text"]


def is_terminal() -> bool:
    """Is standard output a terminal?"""
    return sys.stdout.isatty()


def say(*lines: str, err: bool = False, paint: Callable[[str], str] = str) -> None:
    """Write lines to standard output or standard error. A line break within a line is escaped too.

    `paint` gets an escaped line and may only add colours to it.
    """
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{paint(printable(line))}\n" for line in lines))
    stream.flush()


def say_text(text: str, *, err: bool = False) -> None:
    """Write a text of several lines. Parts from nodes, coordinators or files must already be single lines."""
    say(*text.rstrip("\n").split("\n"), err=err)
