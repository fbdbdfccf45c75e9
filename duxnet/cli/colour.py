"""States in colour: green is good, red needs attention, yellow is anything else."""

from __future__ import annotations

import os

from duxnet.process.terminal import is_terminal

__all__ = ["painted"]

_GREEN, _RED, _YELLOW = 32, 31, 33
_GOOD = {"ready", "valid", "ok"}
_BAD = ("down", "banned", "suspended", "critical", "problem", "damaged")


def painted(line: str, start: int, end: int) -> str:
    """The line with the state between `start` and `end` in colour, if standard output shows colours."""
    state = line[start:end].strip()
    if not state or not _is_on():
        return line
    code = _GREEN if state in _GOOD else _RED if any(word in state.lower() for word in _BAD) else _YELLOW
    return f"{line[:start]}\x1b[{code}m{line[start:end].rstrip()}\x1b[0m{line[start + len(state) :]}"


def _is_on() -> bool:
    """As `--color` says; otherwise in a terminal, unless NO_COLOR (no-color.org) or TERM=dumb forbids it."""
    import click

    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
