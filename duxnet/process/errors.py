"""Errors that are shown to the user without a traceback, and the exit codes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CommandError", "ConfigurationError", "EXIT_BAD_CONFIGURATION", "EXIT_PARTIAL", "EXIT_RUNTIME", "EXIT_USAGE"]

EXIT_RUNTIME = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h; the units do not restart on it


class ConfigurationError(Exception):
    """The configuration cannot be used. Each of `problems` is a sentence with setting, value, rule and source."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class CommandError(Exception):
    """A command cannot do its work: `reason` says why, and the lines of `remedy` say what the user can do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}\n{self.remedy}"
