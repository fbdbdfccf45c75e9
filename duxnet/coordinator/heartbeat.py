"""PUT /v1/nodes/{id}/heartbeat, which is nearly all of a coordinator's traffic, without a framework.

Here: from the parts of a request to `Coordinator.beat` and back, once for two carriers: the lane of our own server
(`protocol`) and any ASGI server. Errors have the shape of every other route's, and the route stands in the same
OpenAPI document (`routes_nodes`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import lru_cache
from typing import Any, Callable, Optional, Union

import msgspec

from duxnet.coordinator.access import may_speak_plainly
from duxnet.coordinator.problems import ProblemAnswer, Refused, answer_to
from duxnet.coordinator.service import Coordinator
from registry_core.errors import RegistryError
from registry_core.wire.shapes import MAX_HEARTBEAT_BYTES, Heartbeat

__all__ = ["Heartbeats", "Receive", "Scope", "Send", "refuse_content_type", "send_problem"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_decode = msgspec.json.Decoder(Heartbeat).decode
_JSON = (b"content-type", b"application/json")


class Heartbeats:
    """Answers heartbeats at once: nothing of them waits."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._beat = coordinator.beat
        self._counters = coordinator.counters
        self._may_speak_plainly = lru_cache(maxsize=1024)(
            lambda address: may_speak_plainly(address, coordinator.proxy_networks)
        )

    def is_open_to(self, scheme: str, client: Optional[str]) -> bool:
        """Encrypted, or from where plain http is taken. `client` None: a socket in the file system."""
        return scheme == "https" or client is None or bool(self._may_speak_plainly(client))

    def answer(
        self, node_id: str, authorization: bytes, content_type: bytes, body: bytes
    ) -> Union[bytes, ProblemAnswer]:
        """The body of a success, or what is wrong."""
        try:
            if content_type != b"application/json":
                refuse_content_type(content_type)
            taken = self._beat(authorization.decode("latin-1"), node_id, _heartbeat_in(body))
        except RegistryError as error:
            problem = answer_to(error, f"/v1/nodes/{node_id}/heartbeat")
            self._counters[f"heartbeat refused {problem.kind}"] += 1
            return problem
        self._counters["heartbeats"] += 1
        return taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request of an ASGI server."""
        headers = dict(scope["headers"])
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body") and len(body) <= MAX_HEARTBEAT_BYTES:
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        answer = self.answer(node_id, headers.get(b"authorization", b""), headers.get(b"content-type", b""), body)
        if isinstance(answer, ProblemAnswer):
            await send_problem(send, answer)
            return
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": answer})


def _heartbeat_in(body: bytes) -> Heartbeat:
    if len(body) > MAX_HEARTBEAT_BYTES:
        raise Refused("too-large", f"a heartbeat has at most {MAX_HEARTBEAT_BYTES} bytes")
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise Refused("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


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
