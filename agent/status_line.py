"""The status line that an agent keeps up to date in a terminal. Log lines are printed above it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from registry_core.errors import printable

__all__ = ["StatusLine"]

_CLEAR = "\r\x1b[2K"
_NARROWEST = 20


class StatusLine:
    """Writes to `stream`, which is a terminal."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:  # noqa: TID251 - it draws; what it shows is escaped
        self._stream = stream
        self._shown = ""

    def show(self, *wordings: str) -> None:
        """Show the first wording that fits, else the last one truncated: a line that wraps could not be removed."""
        width = max(_NARROWEST, self._width() - 1)
        lines = [printable(wording) for wording in wordings]
        line = next((line for line in lines if len(line) <= width), None)
        if line is None:
            line = lines[-1][: width - 1] + "…"
        if line != self._shown:
            self._shown = line
            self._write(_CLEAR + line)

    def above(self, text: str) -> None:
        """Print lines above the status line."""
        self._write(f"{_CLEAR}{text}\n{self._shown}")

    def end(self) -> None:
        """Remove the line."""
        self._shown = ""
        self._write(_CLEAR)

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone: continue reporting
            return
