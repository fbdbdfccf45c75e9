"""The outermost ASGI layer: heartbeats and registrations go straight to their bare routes, all else to the framework.

Here: that fork, and bounds that hold for every request: encryption, size of bodies, content types of writes.
"""

from __future__ import annotations

from typing import Any, Optional, cast
from urllib.parse import unquote

from litestar.types import ASGIApp

from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import Receive, Scope, Send, refuse_content_type, send_problem
from duxnet.coordinator.http.problem_answers import answer_to
from duxnet.coordinator.routes.heartbeat import Heartbeats
from duxnet.coordinator.routes.registration import Registrations
from registry_core.errors import RegistryError
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES

__all__ = ["HIDDEN_PATH", "Dispatcher"]

HIDDEN_PATH = "/.openapi"
"""Where the framework would serve its own pages, with errors in a shape of their own; ours are in `browsable`."""

_PREFIX = "/v1/nodes/"
_SUFFIX = "/heartbeat"
_WITH_BODY = ("PUT", "POST", "PATCH")


class Dispatcher:
    """The ASGI application. `inner` is the framework's."""

    def __init__(self, inner: ASGIApp, coordinator: Coordinator) -> None:
        self._inner = inner
        self.heartbeats = Heartbeats(coordinator)
        self._registrations = Registrations(coordinator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the framework's lifespan."""
        if scope["type"] != "http":
            await self._inner(cast("Any", scope), cast("Any", receive), cast("Any", send))
            return
        if scope["method"] == "HEAD":
            scope, send = _as_get(scope), _without_body(send)
        path: str = scope["path"]
        method = scope["method"]
        client = scope.get("client")
        if not self.heartbeats.is_open_to(scope["scheme"], client[0] if client is not None else None):
            await send_problem(send, answer_to(Refused("plaintext"), path))
            return
        if method == "PUT" and path.endswith(_SUFFIX):
            node_id = _node_of(scope, path, _SUFFIX)
            if node_id is not None:
                await self.heartbeats(scope, receive, send, node_id)
                return
        try:
            self._check(scope, method, _below_root(scope, path))
        except RegistryError as error:
            await send_problem(send, answer_to(error, path))
            return
        node_id = _node_of(scope, path, "") if method == "PUT" else None
        if node_id is not None:
            await self._registrations(scope, receive, send, node_id)
            return
        await self._inner(cast("Any", scope), cast("Any", receive), cast("Any", send))

    def _check(self, scope: Scope, method: str, path: str) -> None:
        if HIDDEN_PATH in path:
            raise Refused("unknown-address")
        if method not in _WITH_BODY:
            return
        content_type = b""
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > MAX_REGISTRATION_BYTES:
                raise Refused("too-large", f"a request has at most {MAX_REGISTRATION_BYTES} bytes")
            if name == b"content-type":
                content_type = value
        if path.lstrip("/").startswith("v1/") and not path.endswith("/leave"):  # the framework takes //v1 for /v1
            refuse_content_type(content_type)


def _as_get(scope: Scope) -> Scope:
    """What HEAD asks about (RFC 9110, 9.3.2). Without Accept: a stream of events would have no end."""
    return {**scope, "method": "GET", "headers": [item for item in scope["headers"] if item[0] != b"accept"]}


def _without_body(send: Send) -> Send:
    async def send_head(message: dict[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def _node_of(scope: Scope, path: str, suffix: str) -> Optional[str]:
    """The node id in the path of a node, or of a part of it; None where it is no such path."""
    path = _below_root(scope, path)
    if not path.startswith(_PREFIX):
        return None
    node_id = path[len(_PREFIX) : len(path) - len(suffix)]
    return unquote(node_id) if node_id and "/" not in node_id else None


def _below_root(scope: Scope, path: str) -> str:
    """The path without what is before it where this is mounted in another service."""
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path
