"""PUT /v1/nodes/{id}/heartbeat, which is nearly all of a coordinator's traffic.

Here: from the parts of a request to `Coordinator.beat` and back, both for the fast path of our own server
(`server.connection`) and for any ASGI server.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional, Union

import msgspec

from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import (
    Receive,
    Scope,
    Send,
    body_of,
    decoded,
    refuse_content_type,
    send_json,
    send_problem,
)
from duxnet.coordinator.http.problem_answers import ProblemAnswer, counted
from registry_core.wire.shapes import MAX_HEARTBEAT_BYTES, Heartbeat

__all__ = ["Heartbeats"]

_decode = msgspec.json.Decoder(Heartbeat).decode


class Heartbeats:
    """Answers heartbeats without waiting for anything."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._beat = coordinator.beat
        self._counters = coordinator.counters
        self._may_speak_plainly = lru_cache(maxsize=1024)(coordinator.forwarding.may_speak_plainly)

    def is_open_to(self, scheme: str, client: Optional[str]) -> bool:
        """Is the request encrypted, or may this client use plain http? `client` None is a Unix domain socket."""
        return scheme == "https" or client is None or bool(self._may_speak_plainly(client))

    def answer(
        self, node_id: str, authorization: bytes, content_type: bytes, body: bytes
    ) -> Union[bytes, ProblemAnswer]:
        """Returns the body of a successful answer, or the problem."""
        try:
            refuse_content_type(content_type)
            reply = self._beat(authorization.decode("latin-1"), node_id, _heartbeat_in(body))
        except Exception as error:  # noqa: BLE001 - the border of the process: logged and answered as `internal`
            return counted(error, "PUT", f"/v1/nodes/{node_id}/heartbeat", self._counters, "heartbeat ")
        self._counters["heartbeats"] += 1
        return reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request of an ASGI server."""
        headers = dict(scope["headers"])
        body = await body_of(receive, MAX_HEARTBEAT_BYTES)
        if body is None:
            return
        answer = self.answer(node_id, headers.get(b"authorization", b""), headers.get(b"content-type", b""), body)
        if isinstance(answer, ProblemAnswer):
            await send_problem(send, answer)
        else:
            await send_json(send, answer)


def _heartbeat_in(body: bytes) -> Heartbeat:
    if len(body) > MAX_HEARTBEAT_BYTES:
        raise Refused("too-large", f"a heartbeat body has at most {MAX_HEARTBEAT_BYTES} bytes")
    return decoded(body, _decode)
