"""From a coordinator's answer to a value or to one of our errors. The whole mapping, and nothing that sends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable, NoReturn, Optional, TypeVar

import msgspec

from registry_core.errors import (
    EventsCompacted,
    NotSupportedError,
    RefusedError,
    RegistryError,
    StoreError,
    UnknownNodeError,
    UnreachableError,
    ValidationError,
    printable,
    shown,
)
from registry_core.wire.problems import PROBLEM_MEDIA_TYPE, Problem, kind_of

__all__ = [
    "Answer",
    "decoded",
    "kind_name",
    "problem_in",
    "raise_for",
    "raise_for_unsigned",
    "safe_text",
    "understood",
]

T = TypeVar("T")

_LATER = frozenset({"busy", "warming-up", "too-many-requests", "internal"})
STORE_KINDS = frozenset({"store-failed", "disk-full"})
LONGEST_TEXT = 1024
_SECRETS = re.compile(r"(dux_[a-z]+_)[\w-]+|[\w.:-]+~\d+~\d+~[\w-]+")  # bearer tokens; sessions of nodes
_INPUT = frozenset({"invalid", "malformed", "too-large", "wrong-content-type", "headers-too-large"})


class Answer(msgspec.Struct, frozen=True):
    """What came back: the address that gave it, the status, the headers that matter, the body.

    `content_type` is the header as it came; `proof` holds the headers that `answer_signature.verify_answer` reads.
    """

    address: str
    status: int
    media_type: str
    retry_after_seconds: Optional[float]
    challenge: str
    body: bytes
    location: str = ""
    content_type: str = ""
    proof: Mapping[str, str] = {}


def problem_in(answer: Answer) -> Optional[Problem]:
    """The problem that an answer carries, or None: not an error, or not from a coordinator of ours.

    Its texts are safe to show.
    """
    if answer.media_type != PROBLEM_MEDIA_TYPE:
        return None
    try:
        problem = msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    for name in ("title", "detail", "remedy", "field", "value", "rule"):
        setattr(problem, name, safe_text(getattr(problem, name)))
    return problem


def kind_name(answer: Answer) -> str:
    """The name of the kind of problem that an answer carries; "" for none that this version knows."""
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    return kind.name if kind is not None else ""


def safe_text(text: str) -> str:
    """A text from an answer as it may stand in an error or a log: short, in one line, without what a terminal acts on.

    A server can send back what it was sent: tokens are left out.
    """
    cut = _SECRETS.sub(lambda found: f"{found[1] or ''}…", text[:LONGEST_TEXT])
    return printable(cut)


def decoded(answer: Answer, kind: type[T]) -> T:
    """The body of a good answer. Raises UnreachableError where it is something else: not a coordinator of ours."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # UTF-8 that is none, numbers without end
        raise _odd(answer, error) from None


def understood(answer: Answer, read: Callable[[Mapping[str, Any]], T], plain: Mapping[str, Any]) -> T:
    """What `read` makes of a part of a good answer. Raises UnreachableError where it refuses it."""
    try:
        return read(plain)
    except ValidationError as error:
        raise _odd(answer, error) from None


def _odd(answer: Answer, error: Exception) -> UnreachableError:
    return UnreachableError(answer.address, f"does not answer like a coordinator: {safe_text(str(error))}")


def raise_for(answer: Answer, node_id: str = "") -> NoReturn:
    """Raise the error that an answer which is no success means. `node_id` is the node that was asked for."""
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    if problem is None or kind is None:
        raise _foreign(answer)
    raise _error(answer, problem, kind.name, node_id)


def raise_for_unsigned(answer: Answer, node_id: str = "") -> NoReturn:
    """As `raise_for`, for an answer that the coordinator would have signed: what it refuses for good is not believed.

    Whoever stands between can write such an answer; so the caller tries again, and is not told to give up.
    """
    try:
        raise_for(answer, node_id)
    except RefusedError as error:
        remedy = f"; {error.remedy}" if error.remedy else ""
        reason = f"refuses, without the coordinator's signature: {error.reason}{remedy}"
        raise UnreachableError(answer.address, reason, answer.retry_after_seconds) from None


def _foreign(answer: Answer) -> RegistryError:
    """An error that no coordinator of ours wrote: a proxy's, or a newer coordinator's."""
    reason = f"answered with status {answer.status} and no reason that this version knows"
    if 300 <= answer.status < 400:
        where = shown(safe_text(answer.location)) if answer.location else "nowhere"
        reason = (
            f"answered with status {answer.status}, a redirect to {where}, which is not followed: "
            "if the coordinator is there, that is the address to set"
        )
    if answer.status in (401, 403):
        return RefusedError("not-allowed", f"{answer.address} {reason}", "look whether a proxy stands between")
    return UnreachableError(answer.address, reason, answer.retry_after_seconds)


def _error(answer: Answer, problem: Problem, name: str, node_id: str) -> RegistryError:
    reason = problem.detail or problem.title
    if name == "unknown-node":
        return UnknownNodeError(node_id)
    if name in _INPUT:
        return ValidationError(problem.field or "request", problem.value, problem.rule or reason)
    if name in _LATER:
        return UnreachableError(answer.address, reason, answer.retry_after_seconds)
    if name in STORE_KINDS:
        return StoreError(answer.address, reason)
    if name == "events-compacted":
        return EventsCompacted(0, problem.oldest_index or 0)
    if name == "unknown-parameter":  # this client sends none but those of its own version
        return NotSupportedError(f"{answer.address}: {reason} (the coordinator is older than this client)")
    if name in ("not-supported", "unknown-address", "method-not-allowed"):
        return NotSupportedError(f"{answer.address}: {reason}")
    if name == "banned" and problem.detail:  # the operator's words, which need not say what they are about
        reason = f"{problem.title}: {problem.detail}"
    return RefusedError(name, reason, problem.remedy)
