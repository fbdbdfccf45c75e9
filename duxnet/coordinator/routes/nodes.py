"""Routes by which nodes leave or are removed. See `registration` and `heartbeat` for the others of nodes."""

from __future__ import annotations

from duxnet.coordinator.access.roles import ANONYMOUS, Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.http.messages import Request, Response
from registry_core.errors import UnknownNodeError

__all__ = ["leave", "remove"]


async def leave(node_id: str, request: Request, coordinator: Coordinator) -> Response:
    """Needs the session's token. The node is `left`, not `down`, until it reports again."""
    coordinator.speaks_for(request.header(b"authorization"), node_id)
    with coordinator.leaving.taken(coordinator.holder(request, ANONYMOUS)):
        await coordinator.commit_queue.run(lambda: coordinator.registry.leave(node_id))
    return Response(b'{"done":true}')


async def remove(node_id: str, request: Request, coordinator: Coordinator) -> Response:
    """Needs the session's token or an operator's token. An operator may also remove a damaged record."""
    authorization = request.header(b"authorization")
    by_operator = authorization.lower().startswith("bearer dux_") or not authorization
    if by_operator:
        caller = coordinator.access.caller(authorization)
        caller.need(Permission.OPERATE)
        actor = caller.name
    else:
        coordinator.speaks_for(authorization, node_id)
        actor = f"node {node_id}"
        caller = ANONYMOUS
    with coordinator.leaving.taken(coordinator.holder(request, caller)):
        if not await coordinator.remove(node_id, actor, by_operator=by_operator):
            raise UnknownNodeError(node_id)
    return Response(b"", b"", 204)
