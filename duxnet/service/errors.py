"""Why a service could not be installed, removed or asked about, each with what to do."""

from __future__ import annotations

from duxnet.process.errors import CommandError

__all__ = ["ServiceError"]


class ServiceError(CommandError):
    """`reason` says what stands in the way, `remedy` (may be several lines) what its user can do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}\n{self.remedy}"
