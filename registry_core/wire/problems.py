"""The kinds of problem that a coordinator answers with (RFC 9457), in one table: status, title, what to do.

Here: names, statuses and the shape. Not here: who raises which, and how a client turns one into an exception.
Clients branch on `type`; the text is for people.
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
    """One kind. `remedy` is what the one who reads it can do."""

    name: str
    status: int
    title: str
    remedy: str = ""


class Problem(msgspec.Struct, omit_defaults=True):
    """An error as it travels. `field`, `value` (shortened) and `rule` come with `invalid`; times are seconds."""

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
    ProblemKind("protocol", 400, "The coordinator and the node are of versions too far apart"),
    ProblemKind(
        "token-required",
        401,
        "This needs a token",
        "send Authorization: Bearer with a token of this coordinator (duxnet token create)",
    ),
    ProblemKind("session-expired", 401, "The session has ended", "register again"),
    ProblemKind(
        "bad-signature",
        401,
        "The signature does not hold",
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
        "Plain http is answered to this machine and the configured proxies only",
        "come by https, or through the proxy; replace a token that was sent this way, others may have read it",
    ),
    ProblemKind(
        "unnamed-proxy",
        403,
        "A proxy on the coordinator's machine that is not named stands between",
        'name it in the coordinator\'s settings, such as proxies = ["127.0.0.1"] in [coordinator]; or come without it',
    ),
    ProblemKind(
        "foreign-origin",
        403,
        "Pages of others may not speak with a coordinator",
        "serve the page from the coordinator's own address, by a proxy that sets no Origin",
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
    ProblemKind("unknown-address", 404, "There is nothing at this address", "see /openapi.json"),
    ProblemKind("method-not-allowed", 405, "This address does not know that method", "see /openapi.json"),
    ProblemKind("too-slow", 408, "The request did not become whole in time"),
    ProblemKind(
        "duplicate-identity",
        409,
        "Another machine is using this node's key",
        "if this machine is a copy, remove node.key and node.id from its state directory to make it a node of its own; "
        "if it replaces the other, stop that one and wait until it counts as down",
    ),
    ProblemKind("stale-generation", 409, "A later registration is known", "register with a higher generation"),
    ProblemKind("stale-sequence", 409, "A later heartbeat is known", "send a higher sequence, or register again"),
    ProblemKind("events-compacted", 410, "Those events are no longer kept", "read the list again, then follow"),
    ProblemKind("too-large", 413, "The request is too large"),
    ProblemKind("wrong-content-type", 415, "The content must be application/json"),
    ProblemKind("expectation-failed", 417, "Only 100-continue can be expected"),
    ProblemKind(
        "foreign-host",
        421,
        "The coordinator does not go by that name",
        "have its operator add the name to hosts in [coordinator]; or come by IP address, or with a token",
    ),
    ProblemKind("invalid", 422, "A value is not accepted"),
    ProblemKind("unknown-parameter", 422, "The query has a parameter that is not known here", "see /openapi.json"),
    ProblemKind("too-many-requests", 429, "Too many requests", "wait as long as Retry-After says"),
    ProblemKind("headers-too-large", 431, "The headers are too large"),
    ProblemKind("internal", 500, "The coordinator failed", "tell the network's operator; its log has the details"),
    ProblemKind("not-supported", 501, "This coordinator cannot do that"),
    ProblemKind("busy", 503, "The coordinator is busy", _AGAIN),
    ProblemKind("warming-up", 503, "The coordinator has just started", _AGAIN),
    ProblemKind(
        "standing-still",
        503,
        "The coordinator's background work stands still: no node is called down",
        "look at the coordinator's log, and restart it where its service manager does not",
    ),
    ProblemKind("store-failed", 503, "The coordinator cannot keep this now", _AGAIN),
    ProblemKind("disk-full", 507, "The coordinator's disk is full", _AGAIN),
)

KINDS = {kind.name: kind for kind in _KINDS}


def problem_type(name: str) -> str:
    """The URI of a kind."""
    return _PREFIX + name


def kind_of(type_uri: str) -> Optional[ProblemKind]:
    """The kind that a URI names, or None: from a newer coordinator, or not from one at all."""
    return KINDS.get(type_uri[len(_PREFIX) :]) if type_uri.startswith(_PREFIX) else None
