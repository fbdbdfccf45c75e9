"""The one route without a framework: PUT /v1/nodes/{id}/heartbeat, which is nearly all of a coordinator's traffic.

Here: from ASGI to `Coordinator.beat` and back. It answers errors in the shape of every other route, and stands
in the same OpenAPI document (`routes_nodes`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Callable, Optional

import msgspec

from duxnet.coordinator.problems import ProblemAnswer, Refused, answer_to
from duxnet.coordinator.service import Coordinator
from registry_core.errors import RegistryError
from registry_core.wire.shapes import MAX_HEARTBEAT_BYTES, Heartbeat

__all__ = ["HeartbeatRoute", "Receive", "Scope", "Send"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_decode = msgspec.json.Decoder(Heartbeat).decode
_JSON = (b"content-type", b"application/json")


class HeartbeatRoute:
    """Called by the gate for a path that begins and ends like a heartbeat's."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._counters = coordinator.counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request."""
        try:
            body = await self._answer(scope, receive, node_id)
        except RegistryError as error:
            problem = answer_to(error, scope["path"])
            self._counters[f"heartbeat refused {problem.kind}"] += 1
            await send_problem(send, problem)
            return
        if body is None:
            return  # the client has gone
        self._counters["heartbeats"] += 1
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive, node_id: str) -> Optional[bytes]:
        authorization = content_type = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
        if content_type != b"application/json":
            refuse_content_type(content_type)
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            if len(body) > MAX_HEARTBEAT_BYTES:
                break
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return None
        if len(body) > MAX_HEARTBEAT_BYTES:
            raise Refused("too-large", f"a heartbeat has at most {MAX_HEARTBEAT_BYTES} bytes")
        try:
            said = _decode(body)
        except msgspec.ValidationError as error:
            raise Refused("invalid", str(error)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refused("malformed", f"not JSON: {error}") from None
        return self._coordinator.beat(authorization.decode("latin-1"), node_id, said)


def refuse_content_type(content_type: bytes) -> None:
    """Raise Refused unless it is JSON in UTF-8."""
    media_type, _, parameters = content_type.decode("latin-1").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused("wrong-content-type", "send Content-Type: application/json")


async def send_problem(send: Send, problem: ProblemAnswer) -> None:
    """Send an error answer."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in problem.headers.items()]
    headers.append((b"content-length", b"%d" % len(problem.body)))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})
