"""Turns exceptions into problem answers (RFC 9457), for every route.

The kinds of problem themselves are in `registry_core.wire.problems`.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from duxnet.coordinator.errors import Refused
from registry_core.errors import (
    DamagedStoreError,
    EventsCompacted,
    NotSupportedError,
    RegistryClosedError,
    StoreError,
    UnknownNodeError,
    ValidationError,
    shown,
)
from registry_core.identity.signatures import SignatureRefused
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem, problem_type

__all__ = ["ProblemAnswer", "answer_to", "counted"]

_log = logging.getLogger("duxnet.coordinator")

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_SPACE_WORDS = ("disk is full", "No space left", "File too large", "quota exceeded")


@dataclass(frozen=True)
class ProblemAnswer:
    """An encoded error answer. Header names are lower case."""

    status: int
    body: bytes
    kind: str
    headers: dict[str, str] = field(default_factory=dict)


def answer_to(error: Exception, instance: str = "") -> ProblemAnswer:
    """Returns the answer for an error. An unexpected exception becomes `internal`, without details."""
    problem, headers = _problem(error)
    problem.instance = instance[:256]
    kind = problem.type.rpartition(":")[2]
    headers["content-type"] = PROBLEM_MEDIA_TYPE
    if problem.status == 401:
        headers.setdefault("www-authenticate", 'Bearer realm="duxnet"')
    return ProblemAnswer(problem.status, msgspec.json.encode(problem), kind, headers)


def counted(error: Exception, method: str, path: str, counters: Counter[str], route: str = "") -> ProblemAnswer:
    """As `answer_to`, and counts the failure by `route` and kind. An unexpected exception is logged."""
    answer = answer_to(error, path)
    counters[f"{route}refused {answer.kind}"] += 1
    if answer.status == 500:
        _log.error("%s %s failed", method, path, exc_info=error)
    return answer


def _of(kind_name: str, detail: str = "") -> Problem:
    kind = KINDS[kind_name]
    return Problem(problem_type(kind.name), kind.title, kind.status, detail, kind.remedy)


def _problem(error: Exception) -> tuple[Problem, dict[str, str]]:
    if isinstance(error, Refused):
        return _refused(error)
    if isinstance(error, ValidationError):
        problem = _of("invalid", str(error))
        problem.field, problem.value, problem.rule = error.field[:256], shown(error.value), error.rule
        return problem, {}
    if isinstance(error, UnknownNodeError):
        return _of("unknown-node", str(error)), {}
    if isinstance(error, SignatureRefused):
        return _of(error.code, error.reason), {}
    if isinstance(error, EventsCompacted):
        problem = _of("events-compacted", str(error))
        problem.oldest_index = error.oldest_index
        return problem, {}
    if isinstance(error, NotSupportedError):
        return _of("not-supported", str(error)), {}
    if isinstance(error, StoreError):  # without its path, which only the operator may see
        detail = ""
        if isinstance(error, DamagedStoreError) and error.node_id is not None:
            detail = f"the record of node {shown(error.node_id)} is damaged: the operator can restore a backup"
        return _of("disk-full" if _is_full(error) else "store-failed", detail), {"retry-after": "30"}
    if isinstance(error, RegistryClosedError):
        return _of("busy", "the coordinator is stopping"), {"retry-after": "5"}
    return _of("internal"), {}


def _refused(error: Refused) -> tuple[Problem, dict[str, str]]:
    problem = _of(error.kind, error.detail)
    problem.current_generation = error.current_generation
    headers: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        problem.retry_after_seconds = round(error.retry_after_seconds, 3)
        headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
    if error.challenge:
        headers["accept-signature"] = (
            f'duxnet=();created;expires;nonce="{error.challenge}";keyid;tag="duxnet-register-v1"'
        )
    return problem, headers


def _is_full(error: StoreError) -> bool:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
        return True
    return any(words in error.reason for words in _NO_SPACE_WORDS)
