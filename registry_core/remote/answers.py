"""Turns a coordinator's answer into a value or an error. All of that mapping is here; `sender` sends requests."""

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
    """An answer: the address it came from, its status, the relevant headers and the body.

    `content_type` is the unchanged header; `proof` has the headers that `answer_signature.verify_answer` reads.
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
    """The problem in an answer; None when it is not an error, or not from a coordinator. Its texts are safe to show."""
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
    """The name of the kind of problem in an answer; "" when there is none that this version knows."""
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    return kind.name if kind is not None else ""


def safe_text(text: str) -> str:
    """A text from an answer, made safe for an error or a log: short, on one line, without terminal control characters.

    Tokens are removed, since a server may send back what it received.
    """
    cut = _SECRETS.sub(lambda found: f"{found[1] or ''}…", text[:LONGEST_TEXT])
    return printable(cut)


def decoded(answer: Answer, kind: type[T]) -> T:
    """The body of a successful answer. Raises UnreachableError when it is not one of a coordinator."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # invalid UTF-8, huge numbers
        raise _odd(answer, error) from None


def understood(answer: Answer, read: Callable[[Mapping[str, Any]], T], plain: Mapping[str, Any]) -> T:
    """The result of `read` for a part of a successful answer. Raises UnreachableError when `read` rejects it."""
    try:
        return read(plain)
    except ValidationError as error:
        raise _odd(answer, error) from None


def _odd(answer: Answer, error: Exception) -> UnreachableError:
    return UnreachableError(answer.address, f"does not answer like a coordinator: {safe_text(str(error))}")


def raise_for(answer: Answer, node_id: str = "") -> NoReturn:
    """Raise the error for an unsuccessful answer. `node_id` is the requested node."""
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    if problem is None or kind is None:
        raise _foreign(answer)
    raise _error(answer, problem, kind.name, node_id)


def raise_for_unsigned(answer: Answer, node_id: str = "") -> NoReturn:
    """As `raise_for`, for an answer that lacks the coordinator's signature: a permanent refusal is not trusted.

    Another machine on the way can write such an answer, so the error is one after which the caller tries again.
    """
    try:
        raise_for(answer, node_id)
    except RefusedError as error:
        remedy = f"; {error.remedy}" if error.remedy else ""
        reason = f"refused the request without the coordinator's signature: {error.reason}{remedy}"
        raise UnreachableError(answer.address, reason, answer.retry_after_seconds) from None


def _foreign(answer: Answer) -> RegistryError:
    """The error for an answer of a proxy or of a newer coordinator."""
    reason = f"answered with status {answer.status} without a reason that this version knows"
    if 300 <= answer.status < 400:
        where = shown(safe_text(answer.location)) if answer.location else "nowhere"
        reason = (
            f"answered with status {answer.status}, a redirect to {where}, which is not followed: "
            "if the coordinator is there, set that address"
        )
    if answer.status in (401, 403):
        return RefusedError(
            "not-allowed",
            f"{answer.address} {reason}",
            "check whether there is a proxy between this machine and the coordinator",
        )
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
    if name == "unknown-parameter":  # this client sends only those of its own version
        return NotSupportedError(f"{answer.address}: {reason} (the coordinator is older than this client)")
    if name in ("not-supported", "unknown-address", "method-not-allowed"):
        return NotSupportedError(f"{answer.address}: {reason}")
    if name == "banned" and problem.detail:  # the operator's words, which may lack the context
        reason = f"{problem.title}: {problem.detail}"
    return RefusedError(name, reason, problem.remedy)
