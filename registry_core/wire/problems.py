"""The kinds of problem that a coordinator reports (RFC 9457), in one table: name, status, title and remedy.

Clients branch on `type`; the text is for people. Turning a problem into an exception is `remote.answers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Optional

import msgspec
from msgspec import Meta

__all__ = ["KINDS", "PROBLEM_MEDIA_TYPE", "Problem", "ProblemKind", "kind_of", "problem_type"]

PROBLEM_MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:duxnet:problem:"


@dataclass(frozen=True)
class ProblemKind:
    """One kind of problem. `remedy` is what the reader can do about it."""

    name: str
    status: int
    title: str
    remedy: str = ""


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of an error response. `field`, `value` (shortened) and `rule` come with `invalid`."""

    type: str
    title: str
    status: int
    detail: str = ""
    remedy: str = ""
    instance: str = ""
    field: str = ""
    value: str = ""
    rule: str = ""
    current_generation: Optional[Annotated[int, Meta(ge=0, le=2**53 - 1)]] = None
    oldest_index: Optional[Annotated[int, Meta(ge=0, le=2**63 - 1)]] = None
    retry_after_seconds: Optional[Annotated[float, Meta(ge=0)]] = None


_AGAIN = "try again later"
_KINDS = (
    ProblemKind("malformed", 400, "The request cannot be read"),
    ProblemKind("protocol", 400, "The coordinator and the node have incompatible versions"),
    ProblemKind(
        "token-required",
        401,
        "A token is required",
        "send Authorization: Bearer with a token of this coordinator (duxnet token create)",
    ),
    ProblemKind("session-expired", 401, "The session has ended", "register again"),
    ProblemKind(
        "bad-signature",
        401,
        "The signature is invalid",
        "check that node.key is the right one; where the network has a new coordinator, set coordinator_id to its id "
        "or remove remote.json from the agent's state directory, and restart the agent",
    ),
    ProblemKind(
        "signature-time",
        401,
        "The clocks differ too much",
        "sign again with the nonce in Accept-Signature, and set the node's clock",
    ),
    ProblemKind(
        "plaintext",
        403,
        "Plain http is accepted only from this machine and the configured proxies",
        "use https, or connect through the proxy; replace a token that was sent this way: others may have read it",
    ),
    ProblemKind(
        "unnamed-proxy",
        403,
        "The request came through a proxy on the coordinator's machine that is not configured",
        'add the proxy to the coordinator\'s settings, such as proxies = ["127.0.0.1"] in [coordinator]; or bypass it',
    ),
    ProblemKind(
        "foreign-origin",
        403,
        "Web pages from other origins may not use a coordinator",
        "serve the page from the coordinator's own address, through a proxy that removes the Origin header",
    ),
    ProblemKind("not-allowed", 403, "The caller may not do this", "use a token with the right role"),
    ProblemKind(
        "join-token",
        403,
        "A valid join token is needed",
        "ask the network's operator for one (duxnet token create join), and start the agent with it as join_token",
    ),
    ProblemKind("banned", 403, "The operator has excluded this node", "contact the network's operator"),
    ProblemKind("unknown-node", 404, "No such node is registered", "register it"),
    ProblemKind("unknown-address", 404, "No such endpoint", "see /openapi.json"),
    ProblemKind("method-not-allowed", 405, "This endpoint does not support the method", "see /openapi.json"),
    ProblemKind("too-slow", 408, "The request was not completed in time"),
    ProblemKind(
        "duplicate-identity",
        409,
        "Another machine is using this node's key",
        "if this machine is a copy, remove node.key and node.id from its state directory to make it a node of its own; "
        "if it replaces the other machine, stop that one and wait until it is marked down",
    ),
    ProblemKind(
        "stale-generation", 409, "A later registration was already received", "register with a higher generation"
    ),
    ProblemKind(
        "stale-sequence", 409, "A later heartbeat was already received", "send a higher sequence, or register again"
    ),
    ProblemKind(
        "events-compacted",
        410,
        "Those events are no longer kept",
        "read the list again, then follow the events after it",
    ),
    ProblemKind("too-large", 413, "The request is too large"),
    ProblemKind("wrong-content-type", 415, "The content must be application/json"),
    ProblemKind("expectation-failed", 417, "The only supported expectation is 100-continue"),
    ProblemKind(
        "foreign-host",
        421,
        "The coordinator does not serve that host name",
        "have its operator add the name to hosts in [coordinator]; or connect by IP address, or with a token",
    ),
    ProblemKind("invalid", 422, "A value is not accepted"),
    ProblemKind("unknown-parameter", 422, "The query has an unknown parameter", "see /openapi.json"),
    ProblemKind("too-many-requests", 429, "Too many requests", "wait as long as Retry-After says"),
    ProblemKind("headers-too-large", 431, "The headers are too large"),
    ProblemKind(
        "internal",
        500,
        "The coordinator failed",
        "report it to the network's operator; the coordinator's log has the details",
    ),
    ProblemKind("not-supported", 501, "This coordinator does not support that"),
    ProblemKind("busy", 503, "The coordinator is busy", _AGAIN),
    ProblemKind("warming-up", 503, "The coordinator has just started", _AGAIN),
    ProblemKind(
        "standing-still",
        503,
        "The coordinator's background work has stopped: no node is marked down",
        "look at the coordinator's log, and restart the coordinator if its service manager does not",
    ),
    ProblemKind("store-failed", 503, "The coordinator cannot save this now", _AGAIN),
    ProblemKind("disk-full", 507, "The coordinator's disk is full", _AGAIN),
)

KINDS = {kind.name: kind for kind in _KINDS}


def problem_type(name: str) -> str:
    """The URI of a kind."""
    return _PREFIX + name


def kind_of(type_uri: str) -> Optional[ProblemKind]:
    """The kind that a URI names; None for one of a newer coordinator, or of another program."""
    return KINDS.get(type_uri[len(_PREFIX) :]) if type_uri.startswith(_PREFIX) else None
