"""Routes that nodes use: register, heartbeat (documented here, answered in `heartbeat`), leave, remove."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, post, put
from litestar.params import Body

from duxnet.coordinator.access import Permission
from duxnet.coordinator.documented import ERRORS
from duxnet.coordinator.problems import Refused
from duxnet.coordinator.registration import Arrival
from duxnet.coordinator.requests import body_as, caller_of, headers_of, peer_of
from duxnet.coordinator.service import Coordinator
from duxnet.coordinator.views import Outcome
from registry_core.errors import UnknownNodeError, ValidationError
from registry_core.identity.coordinator_id import SEAL_HEADER, seal_answer
from registry_core.models.encoding import node_from_plain
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES, Heartbeat, HeartbeatReply, Registration, RegistrationReply

__all__ = ["NODE_ROUTES"]


@put(
    "/v1/nodes/{node_id:str}",
    status_code=200,
    responses=ERRORS,
    summary="Register a node, or update its description",
    tags=["nodes"],
)
async def register(
    node_id: str,
    request: Request[Any, Any, Any],
    coordinator: Coordinator,
    data: Annotated[Registration, Body()],  # noqa: ARG001 - documents the body
) -> Response[RegistrationReply]:
    """Signed by the node's key (RFC 9421), or with an operator's token."""
    body = await request.body()
    if len(body) > MAX_REGISTRATION_BYTES:
        raise Refused("too-large", f"a request has at most {MAX_REGISTRATION_BYTES} bytes")
    said = body_as(body, Registration)  # once more and strictly: the framework takes 0 for false
    headers = headers_of(request)
    if "signature-input" not in headers and "authorization" in headers:
        return await _register_for(node_id, request, coordinator, said)
    arrival = Arrival(
        node_id,
        said,
        request.scope["raw_path"].decode("latin-1"),
        request.scope["query_string"].decode("latin-1"),
        body,
        headers,
        peer_of(request, coordinator),
    )
    reply = await coordinator.register(arrival)
    coordinator.counters["registrations"] += 1
    answer = msgspec.json.encode(reply)
    seal = seal_answer(headers.get("signature", ""), answer, coordinator.identity.key)
    return _json(answer, {SEAL_HEADER: seal})


async def _register_for(
    node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator, said: Registration
) -> Response[RegistrationReply]:
    caller = caller_of(request, coordinator)
    caller.need(Permission.OPERATE)
    node = node_from_plain(said.node)
    if node.id != node_id:
        raise ValidationError("node.id", node.id, "must be the id in the address")
    await coordinator.register_for(caller, node, said.interval_seconds)
    known = coordinator.registry.get_node(node_id)
    if known is None:
        raise UnknownNodeError(node_id)
    reply = RegistrationReply(
        node_id,
        0,
        "",
        0.0,
        coordinator.interval_seconds,
        str(known.admission),
        known.admission_reason,
        coordinator.identity.id,
        coordinator.is_degraded,
    )
    return _json(msgspec.json.encode(reply), {})


@put(
    "/v1/nodes/{node_id:str}/heartbeat",
    status_code=200,
    responses=ERRORS,
    summary="Say that the node is alive, with its newest sample",
    tags=["nodes"],
)
async def heartbeat(
    node_id: str,
    request: Request[Any, Any, Any],
    coordinator: Coordinator,
    data: Annotated[Heartbeat, Body()],  # noqa: ARG001 - documents the body
) -> Response[HeartbeatReply]:
    """With the session's token. Answered by a bare route in front of this one; this one is the same, slower."""
    said = body_as(await request.body(), Heartbeat)
    body = coordinator.beat(request.headers.get("authorization", ""), node_id, said)
    return _json(body, {})


@post(
    "/v1/nodes/{node_id:str}/leave",
    status_code=200,
    responses=ERRORS,
    summary="Say that the node goes, in good order",
    tags=["nodes"],
)
async def leave(node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator) -> Response[Outcome]:
    """With the session's token: the node is `left`, not `down`, until it is heard again."""
    coordinator.speaks_for(request.headers.get("authorization", ""), node_id)
    await coordinator.commits.made(lambda: coordinator.registry.maintenance.leave(node_id))
    return _json(b'{"done":true}', {})


@delete(
    "/v1/nodes/{node_id:str}",
    status_code=204,
    responses=ERRORS,
    summary="Remove a node for good",
    tags=["nodes"],
)
async def remove(node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator) -> None:
    """With the node's own session, or an operator's token."""
    authorization = request.headers.get("authorization", "")
    if authorization.lower().startswith("bearer dux_") or not authorization:
        caller = caller_of(request, coordinator)
        caller.need(Permission.OPERATE)
        actor = caller.name
    else:
        coordinator.speaks_for(authorization, node_id)
        actor = f"node {node_id}"
    if not await coordinator.remove(node_id, actor):
        raise UnknownNodeError(node_id)


def _json(body: bytes, headers: dict[str, str]) -> Response[Any]:
    return Response(content=body, media_type="application/json", headers=headers)


NODE_ROUTES = [register, heartbeat, leave, remove]
