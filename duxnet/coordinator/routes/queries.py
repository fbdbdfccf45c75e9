"""Read-only routes: list, count, show, reputation, explain, and the coordinator's identity. They need no token."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, Union
from urllib.parse import quote

from duxnet.coordinator.access.roles import Caller, Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.http.messages import Request, Response, conditional_json
from duxnet.coordinator.http.query_params import Listing
from duxnet.coordinator.json_cache import plain_node
from registry_core.errors import UnknownNodeError, ValidationError
from registry_core.models.encoding import reputation_to_plain
from registry_core.models.node import Node
from registry_core.query.node_query import NodePage
from registry_core.query.url import Filters

__all__ = [
    "count_nodes",
    "explain_node",
    "list_nodes",
    "sees_addresses",
    "show_coordinator",
    "show_node",
    "show_reputation",
    "shown_node",
]

NODES_SCHEMA = "duxnet.nodes/1.1"


def list_nodes(
    request: Request, coordinator: Coordinator, caller: Caller, query: Listing
) -> Union[Response, Awaitable[Response]]:
    """`only_healthy` means ready for work. The cursor of the next page is in `next` and in the Link header.

    With `min_uptime_probability` a page may hold fewer nodes than `limit` although more follow: each page examines at
    most 1,000 nodes.
    """
    found = coordinator.node_search.find(query.page_query, lambda: coordinator.holder(request, caller))
    if isinstance(found, NodePage):
        return _page(found, request, coordinator, caller)
    return _page_later(found, request, coordinator, caller)


async def _page_later(
    found: Awaitable[NodePage], request: Request, coordinator: Coordinator, caller: Caller
) -> Response:
    return _page(await found, request, coordinator, caller)


def _page(page: NodePage, request: Request, coordinator: Coordinator, caller: Caller) -> Response:
    encoded_of, with_addresses = coordinator.encoded.of, sees_addresses(caller, coordinator)
    nodes = [encoded_of(node, with_addresses) for node in page.nodes]
    headers = []
    if page.next is not None:
        # Relative to /v1/nodes: a proxy may serve it below another path.
        headers.append((b"link", b'<nodes?%b>; rel="next"' % _next_query(request.query_string, page.next)))
    content = {
        "schema": NODES_SCHEMA,
        "nodes": [node.text for node in nodes],
        "next": page.next,
        "degraded": coordinator.is_degraded,
        "damaged": page.damaged,
    }
    rest = f"{page.next} {content['degraded']} {content['damaged']}".encode()
    return conditional_json(content, request, headers, b"".join([rest, *[node.digest for node in nodes]]))


def _next_query(query_string: bytes, cursor: str) -> bytes:
    """The original query string with another cursor."""
    parts = [part for part in query_string.split(b"&") if part and not part.startswith(b"after=")]
    return b"&".join([*parts, b"after=" + quote(cursor).encode()])


def count_nodes(request: Request, coordinator: Coordinator, query: Filters) -> Response:
    """Takes the conditions of `GET /v1/nodes`, but not `min_uptime_probability`, which must examine every node."""
    wanted = query.query()
    if wanted.min_uptime_probability:
        rule = "cannot be used for counting: list the nodes page by page instead"
        raise ValidationError("min_uptime_probability", wanted.min_uptime_probability, rule)
    count = coordinator.registry.count(wanted)
    return conditional_json({"count": count}, request)


def show_node(node_id: str, request: Request, coordinator: Coordinator, caller: Caller) -> Response:
    """`last_gap` is the last outage that the node reported since this coordinator started."""
    node = coordinator.registry.get_node(node_id)
    if node is None:
        raise UnknownNodeError(node_id)
    plain = shown_node(node, caller, coordinator)
    session = coordinator.sessions.known(node_id)
    if session is not None and session.gap is not None:
        plain["last_gap"] = session.gap
    return conditional_json(plain, request)


def shown_node(node: Node, caller: Caller, coordinator: Coordinator) -> dict[str, Any]:
    """The node's JSON map, as this caller may see it."""
    return plain_node(node, sees_addresses(caller, coordinator))


def sees_addresses(caller: Caller, coordinator: Coordinator) -> bool:
    """May the caller see addresses, by its token or by the setting show_addresses?"""
    return coordinator.settings.show_addresses or caller.may(Permission.SEE_ADDRESSES)


def show_reputation(node_id: str, request: Request, coordinator: Coordinator) -> Response:
    """Score, evidence and reasons."""
    return conditional_json(reputation_to_plain(coordinator.registry.get_reputation(node_id)), request)


def explain_node(node_id: str, request: Request, coordinator: Coordinator, query: Listing) -> Response:
    """Each condition of the query that the node fails, and a remedy. `order`, `limit` and `after` have no effect."""
    found = [asdict(item) for item in coordinator.registry.explain_node(node_id, query.query())]
    return conditional_json({"selected": not found, "failing": found}, request)


def show_coordinator(request: Request, coordinator: Coordinator) -> Response:
    """The identity that nodes pin and sign for, and the network's settings."""
    return conditional_json(coordinator.info(), request)
