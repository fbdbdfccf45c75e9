"""Errors of a process that is being set up: what its user asked for cannot be. Each problem is one line of text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ConfigurationError", "EXIT_BAD_CONFIGURATION", "EXIT_PARTIAL", "EXIT_RUNTIME", "EXIT_USAGE"]

EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h; the units do not restart on it


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` holds one sentence each, naming setting, value, rule and source."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)
