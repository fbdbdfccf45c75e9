"""What routes of the framework read from a request and how they answer one. Every failure is one of our errors."""

from __future__ import annotations

import hashlib
from typing import Any, Optional

import msgspec
from litestar import Request, Response

from duxnet.coordinator.access.roles import Caller, Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.json_cache import plain_node
from registry_core.models.node import Node

__all__ = ["answer_json", "caller_of", "sees_addresses", "shown_node"]

AnyRequest = Request[Any, Any, Any]


def caller_of(request: AnyRequest, coordinator: Coordinator) -> Caller:
    """Who asks. Raises Refused for a token that is none."""
    return coordinator.access.caller(request.headers.get("authorization", ""))


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
