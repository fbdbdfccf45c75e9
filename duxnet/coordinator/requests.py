"""What routes read from a request: the caller, the peer, a query, a body. Every failure is one of our errors."""

from __future__ import annotations

import hashlib
from typing import Any, Optional, TypeVar

import msgspec
from litestar import Request, Response

from duxnet.coordinator.access import Caller, Permission, peer_address
from duxnet.coordinator.asgi import Scope
from duxnet.coordinator.encoded_nodes import plain_node
from duxnet.coordinator.problems import Refused
from duxnet.coordinator.service import Coordinator
from registry_core.models.node import Node

__all__ = ["answer_json", "body_as", "caller_of", "headers_in", "peer_in", "sees_addresses", "shown_node"]

T = TypeVar("T")
AnyRequest = Request[Any, Any, Any]


def caller_of(request: AnyRequest, coordinator: Coordinator) -> Caller:
    """Who asks. Raises Refused for a token that is none."""
    return coordinator.access.caller(request.headers.get("authorization", ""))


def peer_in(scope: Scope, coordinator: Coordinator) -> Optional[str]:
    """Where the request came from: the connection, or what a configured proxy says."""
    client = scope.get("client")
    forwarded = []
    if coordinator.proxy_networks:
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = [hop for header in forwarded for hop in header.split(",")]
    return peer_address(client[0] if client is not None else None, hops, coordinator.proxy_networks)


def headers_in(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; a header that came twice is refused, since a signature could cover either."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = name.decode("latin-1").lower()
        if text in headers and text.startswith(("signature", "content-", "duxnet-", "authorization")):
            raise Refused("malformed", f"the header {text} came more than once")
        headers[text] = value.decode("latin-1")
    return headers


def body_as(body: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises Refused."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Refused("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


def shown_node(node: Node, caller: Caller, coordinator: Coordinator) -> dict[str, Any]:
    """The node as this caller may see it."""
    return plain_node(node, sees_addresses(caller, coordinator))


def sees_addresses(caller: Caller, coordinator: Coordinator) -> bool:
    """By token, or since this network shows them to all."""
    return coordinator.settings.show_addresses or caller.may(Permission.SEE_ADDRESSES)


def answer_json(content: object, request: AnyRequest, headers: Optional[dict[str, str]] = None) -> Response[Any]:
    """A JSON answer with an ETag, or 304 where the asker has it already."""
    body = msgspec.json.encode(content)
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    sent = {"etag": tag, "cache-control": "no-cache", **(headers or {})}
    known = (item.strip() for item in request.headers.get("if-none-match", "").split(","))
    if any(item in (tag, f"W/{tag}", "*") for item in known):  # a proxy that compresses makes a tag weak
        return Response(content=b"", status_code=304, headers=sent)
    return Response(content=body, media_type="application/json", headers=sent)
