"""Routes that nodes use: leave, remove. Register and heartbeat are documented here; `front` answers them before."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, delete, post, put
from litestar.params import Body

from duxnet.coordinator.access.roles import Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.documented import ERRORS
from duxnet.coordinator.http.openapi import Outcome
from duxnet.coordinator.routes.answers import caller_of
from registry_core.errors import UnknownNodeError
from registry_core.wire.shapes import Heartbeat, HeartbeatReply, Registration, RegistrationReply

__all__ = ["NODE_ROUTES"]

_EXACTLY = "a node's address has neither a slash at its end nor two in a row"
"""Such a one the framework takes for the same; a node signs its address as it stands."""


@put(
    "/v1/nodes/{node_id:str}",
    status_code=200,
    responses=ERRORS,
    summary="Register a node, or update its description",
    tags=["nodes"],
)
async def register(
    node_id: str,  # noqa: ARG001
    data: Annotated[Registration, Body()],  # noqa: ARG001
) -> Response[RegistrationReply]:
    """Signed by the node's key (RFC 9421), or with an operator's token."""
    raise Refused("unknown-address", _EXACTLY)


@put(
    "/v1/nodes/{node_id:str}/heartbeat",
    status_code=200,
    responses=ERRORS,
    summary="Say that the node is alive, with its newest sample",
    tags=["nodes"],
)
async def heartbeat(
    node_id: str,  # noqa: ARG001
    data: Annotated[Heartbeat, Body()],  # noqa: ARG001
) -> Response[HeartbeatReply]:
    """With the session's token."""
    raise Refused("unknown-address", _EXACTLY)


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
    await coordinator.commit_queue.run(lambda: coordinator.registry.leave(node_id))
    return _json(b'{"done":true}', {})


@delete(
    "/v1/nodes/{node_id:str}",
    status_code=204,
    responses=ERRORS,
    summary="Remove a node for good",
    tags=["nodes"],
)
async def remove(node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator) -> None:
    """With the node's own session, or an operator's token; with that whatever the node's record holds."""
    authorization = request.headers.get("authorization", "")
    by_operator = authorization.lower().startswith("bearer dux_") or not authorization
    if by_operator:
        caller = caller_of(request, coordinator)
        caller.need(Permission.OPERATE)
        actor = caller.name
    else:
        coordinator.speaks_for(authorization, node_id)
        actor = f"node {node_id}"
    if not await coordinator.remove(node_id, actor, by_operator=by_operator):
        raise UnknownNodeError(node_id)


def _json(body: bytes, headers: dict[str, str]) -> Response[Any]:
    return Response(content=body, media_type="application/json", headers=headers)


NODE_ROUTES = [register, heartbeat, leave, remove]
