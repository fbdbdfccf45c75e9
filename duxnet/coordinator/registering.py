"""PUT /v1/nodes/{id} without a framework: when a network comes back, this is all that a coordinator does.

Here: from the request to `Coordinator.register` and back, signed by the node or with an operator's token. Not here:
the judging (`registration`). The route stands in the OpenAPI document with the others (`routes_nodes`).
"""

from __future__ import annotations

import msgspec

from duxnet.coordinator.access import Permission
from duxnet.coordinator.asgi import Receive, Scope, Send, body_of, send_json, send_problem
from duxnet.coordinator.problems import Refused, counted
from duxnet.coordinator.registration import Arrival
from duxnet.coordinator.requests import body_as, headers_in, peer_in
from duxnet.coordinator.service import Coordinator
from registry_core.errors import ValidationError
from registry_core.identity.coordinator_id import SEAL_HEADER, seal_answer
from registry_core.models.encoding import node_from_plain
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES, Registration

__all__ = ["Registrations"]


class Registrations:
    """Answers registrations."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request."""
        body = await body_of(receive, MAX_REGISTRATION_BYTES)
        if body is None:
            return
        try:
            answer, headers = await self._answer(scope, node_id, body)
        except Exception as error:  # noqa: BLE001 - the border of the process: logged and answered as `internal`
            await send_problem(send, counted(error, "PUT", scope["path"], self._coordinator.counters))
            return
        await send_json(send, answer, headers)

    async def _answer(self, scope: Scope, node_id: str, body: bytes) -> tuple[bytes, dict[str, str]]:
        if len(body) > MAX_REGISTRATION_BYTES:
            raise Refused("too-large", f"a request has at most {MAX_REGISTRATION_BYTES} bytes")
        coordinator = self._coordinator
        headers = headers_in(scope)
        said = body_as(body, Registration)
        if "signature-input" not in headers and "authorization" in headers:
            return await self._register_for(headers["authorization"], node_id, said), {}
        arrival = Arrival(
            node_id,
            said,
            _path_below(scope),
            scope["query_string"].decode("latin-1"),
            body,
            headers,
            peer_in(scope, coordinator),
        )
        answer = msgspec.json.encode(await coordinator.register(arrival))
        coordinator.counters["registrations"] += 1
        return answer, {SEAL_HEADER: seal_answer(headers.get("signature", ""), answer, coordinator.identity.key)}

    async def _register_for(self, authorization: str, node_id: str, said: Registration) -> bytes:
        caller = self._coordinator.access.caller(authorization)
        caller.need(Permission.OPERATE)
        node = node_from_plain(said.node)
        if node.id != node_id:
            raise ValidationError("node.id", node.id, "must be the id in the address")
        return msgspec.json.encode(await self._coordinator.register_for(caller, node, said.interval_seconds))


def _path_below(scope: Scope) -> str:
    """The path that the node signed: as it came, without what is before it where this is mounted in another service."""
    path: str = scope["raw_path"].decode("latin-1")
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
