"""The error of a refused request. `http.problem_answers` turns it into an HTTP answer."""

from __future__ import annotations

from typing import Optional

from registry_core.errors import RegistryError

__all__ = ["Refused", "WorkEnded"]


class WorkEnded(RegistryError):  # noqa: N818 - it reads as what happened
    """A part of the coordinator that must go on has ended, so that the process ends."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"background work ended, so that the coordinator ends: {error!r}")


class Refused(RegistryError):  # noqa: N818 - the name states what happened
    """The coordinator refuses a request. `kind` is a kind of problem (`registry_core.wire.problems`)."""

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        retry_after_seconds: Optional[float] = None,
        current_generation: Optional[int] = None,
        challenge: str = "",
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.current_generation = current_generation
        self.challenge = challenge
