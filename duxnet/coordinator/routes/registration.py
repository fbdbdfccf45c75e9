"""PUT /v1/nodes/{id}, which is nearly all of a coordinator's traffic after an outage of the network.

Here: from the parts of a request to `Coordinator.register` and back. Not here: what a registration does
(`admission.pipeline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from duxnet.coordinator.admission.decision import RegistrationRequest
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import Receive, Scope, Send, body_of, refuse_content_type, send_json, send_problem
from duxnet.coordinator.http.problem_answers import counted
from registry_core.identity.answer_signature import SignedAnswer
from registry_core.identity.signatures import AUDIENCE_HEADER
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES

__all__ = ["Registrations"]

_READ = {
    name.encode("ascii"): name
    for name in (
        "signature-input",
        "signature",
        "content-digest",
        "content-type",
        AUDIENCE_HEADER,
        "authorization",
    )
}


class Registrations:
    """Answers registrations."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request of an ASGI server."""
        body = await body_of(receive, MAX_REGISTRATION_BYTES)
        if body is None:
            return
        coordinator = self._coordinator
        request: Optional[RegistrationRequest] = None
        try:
            request = self._request(scope, node_id, body)
            registered = await coordinator.register(request)
        except Exception as error:  # noqa: BLE001 - the border of the process: logged and answered as `internal`
            problem = counted(error, "PUT", f"/v1/nodes/{node_id}", coordinator.counters)
            if request is not None and problem.status < 500:  # a server error is retried, so it needs no proof
                answer = SignedAnswer(problem.status, problem.headers["content-type"], problem.body)
                problem.headers.update(coordinator.admission.sign(request, answer))
            await send_problem(send, problem)
            return
        await send_json(
            send, registered.body, {**registered.proof, "cache-control": "no-store"}
        )  # holds a session token

    def _request(self, scope: Scope, node_id: str, body: bytes) -> RegistrationRequest:
        """The parts of a request that a registration needs. Raises Refused."""
        if len(body) > MAX_REGISTRATION_BYTES:
            raise Refused("too-large", f"a request body has at most {MAX_REGISTRATION_BYTES} bytes")
        headers = _headers_by_name(scope["headers"])
        refuse_content_type(headers.get("content-type", "").encode("latin-1"))
        client = scope.get("client")
        peer = self._coordinator.forwarding.peer(None if client is None else client[0], scope["headers"])
        path, query = _path_below(scope), scope["query_string"].decode("latin-1")
        return RegistrationRequest(node_id, path, query, headers, body, peer)


def _headers_by_name(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that are read. Raises Refused for a repeated one, since a signature could cover either."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        text = _READ.get(name)
        if text is None:
            continue
        if text in headers:
            raise Refused("malformed", f"header {text}: is given more than once")
        headers[text] = value.decode("latin-1")
    return headers


def _path_below(scope: Scope) -> str:
    """The path that the node signed: the raw path below the mount point of this application."""
    path: str = scope["raw_path"].decode("latin-1")
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path
