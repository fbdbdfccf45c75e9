"""Routes that read: list, count, show, reputation, explain, and who the coordinator is. No token is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from litestar import Request, Response, get

from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.http.documented import ERRORS
from duxnet.coordinator.http.openapi import Count, Explanation, NodePage, NodeView, ReputationView
from duxnet.coordinator.http.query_params import NoMore, Paging, operation_of, parse_node_query
from duxnet.coordinator.routes.answers import answer_json, caller_of, sees_addresses, shown_node
from registry_core.errors import UnknownNodeError, ValidationError
from registry_core.query.node_query import NodeQuery
from registry_core.query.url import QueryParameters
from registry_core.wire.reputation import reputation_to_plain
from registry_core.wire.shapes import CoordinatorInfo

__all__ = ["NODES_SCHEMA", "READ_ROUTES"]

AnyRequest = Request[Any, Any, Any]

NODES_SCHEMA = "duxnet.nodes/1.1"


@get(
    "/v1/nodes",
    responses=ERRORS,
    operation_class=operation_of(QueryParameters, Paging),
    summary="The nodes that meet every condition, best reputation first",
    tags=["read"],
)
async def list_nodes(request: AnyRequest, coordinator: Coordinator) -> Response[NodePage]:
    """`only_healthy` means ready for work. The cursor of the next page is in `next` and in the Link header.

    With `min_uptime_probability` a page may hold fewer nodes than asked for, and go on: it looks at 1,000 at most.
    """
    with_addresses = sees_addresses(caller_of(request, coordinator), coordinator)
    asked, paging = parse_node_query(request.scope["query_string"], Paging)
    page = await coordinator.node_search.find(NodeQuery.from_parameters(asked, paging.limit, paging.after))
    headers = {}
    if page.next is not None:
        # Relative to /v1/nodes: a proxy may serve it below a path that is not known here.
        headers["link"] = f'<nodes?{_next_query(request.scope["query_string"], page.next)}>; rel="next"'
    content = {
        "schema": NODES_SCHEMA,
        "nodes": [coordinator.encoded.text(node, with_addresses) for node in page.nodes],
        "next": page.next,
        "degraded": coordinator.is_degraded,
        "damaged": page.damaged,
    }
    return answer_json(content, request, headers)


def _next_query(query_string: bytes, cursor: str) -> str:
    """The query string as it came, for the page behind `cursor`."""
    parts = query_string.decode("ascii").split("&")
    return "&".join([*(part for part in parts if part and not part.startswith("after=")), f"after={quote(cursor)}"])


@get(
    "/v1/count",
    responses=ERRORS,
    operation_class=operation_of(QueryParameters),
    summary="How many nodes meet every condition",
    tags=["read"],
)
async def count_nodes(request: AnyRequest, coordinator: Coordinator) -> Response[Count]:
    """As the listing, without the nodes. Not for `min_uptime_probability`, which looks at every node: list them."""
    asked, _ = parse_node_query(request.scope["query_string"], NoMore)
    query = NodeQuery.from_parameters(asked)
    if query.min_uptime_probability:
        rule = "is not counted: list the nodes, page by page"
        raise ValidationError("min_uptime_probability", query.min_uptime_probability, rule)
    count = coordinator.registry.count(query)
    return answer_json({"count": count}, request)


@get("/v1/nodes/{node_id:str}", responses=ERRORS, summary="One node as it is now", tags=["read"])
async def show_node(node_id: str, request: AnyRequest, coordinator: Coordinator) -> Response[NodeView]:
    """With `last_gap` where the node told of one since this coordinator started."""
    node = coordinator.registry.get_node(node_id)
    if node is None:
        raise UnknownNodeError(node_id)
    plain = shown_node(node, caller_of(request, coordinator), coordinator)
    session = coordinator.sessions.known(node_id)
    if session is not None and session.gap is not None:
        plain["last_gap"] = session.gap
    return answer_json(plain, request)


@get("/v1/nodes/{node_id:str}/reputation", responses=ERRORS, summary="How a node is judged, and why", tags=["read"])
async def show_reputation(node_id: str, request: AnyRequest, coordinator: Coordinator) -> Response[ReputationView]:
    """Score, evidence and reasons."""
    return answer_json(reputation_to_plain(coordinator.registry.get_reputation(node_id)), request)


@get(
    "/v1/nodes/{node_id:str}/explain",
    responses=ERRORS,
    operation_class=operation_of(QueryParameters, Paging),
    summary="Why a node is not selected",
    tags=["read"],
)
async def explain(node_id: str, request: AnyRequest, coordinator: Coordinator) -> Response[Explanation]:
    """Each condition of the query that the node fails, and the remedy. `order`, `limit` and `after` keep none out."""
    asked, _ = parse_node_query(request.scope["query_string"], Paging)
    found = [asdict(item) for item in coordinator.registry.explain_node(node_id, NodeQuery.from_parameters(asked))]
    return answer_json({"selected": not found, "failing": found}, request)


@get("/v1/coordinator", responses=ERRORS, summary="Who answers here", tags=["read"])
async def show_coordinator(request: AnyRequest, coordinator: Coordinator) -> Response[CoordinatorInfo]:
    """The identity that nodes pin and sign for, and the network's terms."""
    return answer_json(coordinator.info(), request)


READ_ROUTES = [list_nodes, count_nodes, show_node, show_reputation, explain, show_coordinator]
