"""PUT /v1/nodes/{id} without a framework: when a network comes back, this is all that a coordinator does.

Here: from the parts of a request to `Coordinator.register` and back, once for two carriers: the lane of our own server
(`protocol`) and any ASGI server. Not here: what a registration does (`pipeline`). The route stands in the OpenAPI
document with the others (`nodes`).
"""

from __future__ import annotations

import asyncio
from typing import Callable, NamedTuple, Optional, Union

from duxnet.coordinator.admission.pipeline import RegistrationRequest, TakenIn
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import Receive, Scope, Send, body_of, refuse_content_type, send_json, send_problem
from duxnet.coordinator.http.problem_answers import ProblemAnswer, counted
from registry_core.identity.coordinator_id import SEAL_HEADER
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES

__all__ = ["RegistrationAnswer", "Registrations"]


class RegistrationAnswer(NamedTuple):
    """A success, ready to be sent."""

    body: bytes
    headers: dict[str, str]


Answered = Callable[[Union[RegistrationAnswer, ProblemAnswer]], None]


class Registrations:
    """Answers registrations."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def take(self, request: RegistrationRequest, answered: Answered) -> None:
        """Have `answered` called with the answer, now or when it is ready."""

        def told(taken: Optional[TakenIn], error: Optional[BaseException]) -> None:
            if taken is not None:
                headers = {"cache-control": "no-store", **({SEAL_HEADER: taken.seal} if taken.seal else {})}
                answered(RegistrationAnswer(taken.body, headers))
            elif isinstance(error, Exception):
                answered(counted(error, "PUT", f"/v1/nodes/{request.node_id}", self._coordinator.counters))

        try:
            if len(request.body) > MAX_REGISTRATION_BYTES:
                raise Refused("too-large", f"a request has at most {MAX_REGISTRATION_BYTES} bytes")
            refuse_content_type(next((value for name, value in request.headers if name == b"content-type"), b""))
            self._coordinator.register(request, told)
        except Exception as error:  # noqa: BLE001 - the border of the process: logged and answered as `internal`
            told(None, error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, node_id: str) -> None:
        """Answer one request of an ASGI server."""
        body = await body_of(receive, MAX_REGISTRATION_BYTES)
        if body is None:
            return
        client = scope.get("client")
        request = RegistrationRequest(
            node_id,
            _path_below(scope),
            scope["query_string"],
            scope["headers"],
            body,
            client[0] if client is not None else None,
        )
        future: asyncio.Future[Union[RegistrationAnswer, ProblemAnswer]] = asyncio.get_running_loop().create_future()
        self.take(request, lambda answer: None if future.done() else future.set_result(answer))
        answer = await future
        if isinstance(answer, ProblemAnswer):
            await send_problem(send, answer)
        else:
            await send_json(send, answer.body, answer.headers)


def _path_below(scope: Scope) -> bytes:
    """The path that the node signed: as it came, without what is before it where this is mounted in another service."""
    path: bytes = scope["raw_path"]
    root = scope.get("root_path", "").encode("latin-1")
    return path[len(root) :] if root and path.startswith(root + b"/") else path
