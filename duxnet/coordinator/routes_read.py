"""Routes that read: list, count, show, reputation, explain, and who the coordinator is. No token is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, Optional
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.params import Parameter

from duxnet.coordinator.documented import ERRORS
from duxnet.coordinator.problems import Refused
from duxnet.coordinator.requests import Filters, answer_json, caller_of, sees_addresses, shown_node
from duxnet.coordinator.service import Coordinator
from duxnet.coordinator.views import Count, Explanation, NodePage, NodeView, ReputationView
from registry_core.errors import NotSupportedError, UnknownNodeError, shown
from registry_core.models import limits
from registry_core.rules.explain import failing
from registry_core.wire.reputation import reputation_to_plain
from registry_core.wire.shapes import CoordinatorInfo

__all__ = ["NODES_SCHEMA", "READ_ROUTES", "filters"]

NODES_SCHEMA = "duxnet.nodes/1.0"
DEFAULT_LIMIT = 100
MOST_NODES = 1000
MANY = ("tag", "exclude")

Score = Annotated[float, Parameter(ge=0, le=5, description="The least reputation")]
Probability = Annotated[float, Parameter(ge=0, le=1, description="Of staying live for the next 6 hours")]
Cores = Annotated[int, Parameter(ge=0, le=limits.MAX_CPUS)]
Gigabytes = Annotated[float, Parameter(ge=0, description="In 10⁹ bytes")]
Gpus = Annotated[int, Parameter(ge=0, le=limits.MAX_GPUS)]
Words = Annotated[str, Parameter(max_length=128)]
Limit = Annotated[int, Parameter(ge=1, le=MOST_NODES)]
Tags = Annotated[Optional[list[str]], Parameter(query="tag", description="KEY=VALUE; may come several times")]
Ids = Annotated[Optional[list[str]], Parameter(query="exclude", description="Node ids to leave out")]
Order = Literal["reputation", "random", "least_loaded", "explore"]


async def filters(
    request: Request[Any, Any, Any],
    coordinator: Coordinator,  # noqa: ARG001
    min_reputation: Score = 0.0,
    only_healthy: bool = False,
    min_cpu_cores: Cores = 0,
    min_memory_gb: Gigabytes = 0.0,
    min_storage_gb: Gigabytes = 0.0,
    gpu: bool = False,
    gpu_count: Gpus = 0,
    gpu_vendor: Words = "",
    gpu_model: Words = "",
    gpu_memory_gb: Gigabytes = 0.0,
    wallet: Optional[Words] = None,
    tags: Tags = None,
    excluded: Ids = None,
    order: Order = "reputation",
    seed: Annotated[int, Parameter(ge=0, le=2**63 - 1)] = 0,
    min_uptime_probability: Probability = 0.0,
) -> Filters:
    """The query parameters of every listing. One that comes twice where one is meant is refused: which would count?"""
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name in seen and name not in MANY:
            raise Refused("invalid", f"{shown(name)} came more than once")
        seen.add(name)
    return Filters(
        min_reputation,
        only_healthy,
        min_cpu_cores,
        min_memory_gb,
        min_storage_gb,
        gpu,
        gpu_count,
        gpu_vendor,
        gpu_model,
        gpu_memory_gb,
        wallet,
        tuple(tags or ()),
        tuple(excluded or ()),
        order,
        seed,
        min_uptime_probability,
    )


@get("/v1/nodes", responses=ERRORS, summary="The nodes that meet every condition, best reputation first", tags=["read"])
async def list_nodes(
    request: Request[Any, Any, Any],
    coordinator: Coordinator,
    asked: Filters,
    limit: Limit = DEFAULT_LIMIT,
    after: Annotated[Optional[str], Parameter(max_length=128, description="The cursor of an earlier answer")] = None,
) -> Response[NodePage]:
    """`only_healthy` means ready for work. The cursor of the next page is in `next` and in the Link header.

    With `min_uptime_probability` a page may hold fewer nodes than asked for, and go on: it looks at 1,000 at most.
    """
    with_addresses = sees_addresses(caller_of(request, coordinator), coordinator)
    page = await coordinator.questions.find(asked.query(limit, after))
    headers = {}
    if page.next is not None:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
        headers["link"] = f'</v1/nodes?{urlencode([*kept, ("after", page.next)])}>; rel="next"'
    content = {
        "schema": NODES_SCHEMA,
        "nodes": [coordinator.encoded.text(node, with_addresses) for node in page.nodes],
        "next": page.next,
        "degraded": coordinator.is_degraded,
    }
    return answer_json(content, request, headers)


@get("/v1/count", responses=ERRORS, summary="How many nodes meet every condition", tags=["read"])
async def count_nodes(request: Request[Any, Any, Any], coordinator: Coordinator, asked: Filters) -> Response[Count]:
    """As the listing, without the nodes. Not for `min_uptime_probability`, which looks at every node: list them."""
    query = asked.query()
    if query.min_uptime_probability:
        raise NotSupportedError("min_uptime_probability is not counted: list the nodes, page by page")
    count = coordinator.registry.count_nodes(
        query.min_reputation,
        query.only_healthy,
        query.min_capabilities,
        wallet_address=query.wallet_address,
        gpus=query.gpus,
        tags=query.tags,
        exclude=query.exclude,
    )
    return answer_json({"count": count}, request)


@get("/v1/nodes/{node_id:str}", responses=ERRORS, summary="One node as it is now", tags=["read"])
async def show_node(node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator) -> Response[NodeView]:
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
async def show_reputation(
    node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator
) -> Response[ReputationView]:
    """Score, evidence and reasons."""
    return answer_json(reputation_to_plain(coordinator.registry.get_reputation(node_id)), request)


@get("/v1/nodes/{node_id:str}/explain", responses=ERRORS, summary="Why a node is not selected", tags=["read"])
async def explain(
    node_id: str, request: Request[Any, Any, Any], coordinator: Coordinator, asked: Filters
) -> Response[Explanation]:
    """Each condition of the query that the node fails, and the remedy."""
    node = coordinator.registry.get_node(node_id)
    if node is None:
        raise UnknownNodeError(node_id)
    query = asked.query()
    stays = coordinator.registry.expected_uptime(node_id, 6.0) if query.min_uptime_probability else 1.0
    found = [asdict(item) for item in failing(node, query, stays)]
    return answer_json({"selected": not found, "failing": found}, request)


@get("/v1/coordinator", responses=ERRORS, summary="Who answers here", tags=["read"])
async def show_coordinator(request: Request[Any, Any, Any], coordinator: Coordinator) -> Response[CoordinatorInfo]:
    """The identity that nodes pin and sign for, and the network's terms."""
    return answer_json(coordinator.info(), request)


READ_ROUTES = [list_nodes, count_nodes, show_node, show_reputation, explain, show_coordinator]
