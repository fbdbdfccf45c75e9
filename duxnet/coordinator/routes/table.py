"""The table of the coordinator's routes: path, handler, required permission, and OpenAPI description."""

from __future__ import annotations

from pathlib import Path

import msgspec

from duxnet.coordinator.access.roles import Permission
from duxnet.coordinator.http.messages import JSON, Response
from duxnet.coordinator.http.openapi import (
    Count,
    EventPage,
    Explanation,
    NodePage,
    NodeView,
    Outcome,
    ScrapeTarget,
    StatusView,
    openapi_document,
)
from duxnet.coordinator.http.routing import Route
from duxnet.coordinator.http.security_headers import page_security
from duxnet.coordinator.routes.heartbeat import Heartbeats
from duxnet.coordinator.routes.monitoring import healthz, metrics, readyz, service_discovery, show_events
from duxnet.coordinator.routes.nodes import leave, remove
from duxnet.coordinator.routes.operators import attach_wallet, change_admission, cordon, report_outcome, uncordon
from duxnet.coordinator.routes.queries import (
    count_nodes,
    explain_node,
    list_nodes,
    show_coordinator,
    show_node,
    show_reputation,
)
from duxnet.coordinator.routes.registration import Registrations
from registry_core.models.reputation import Reputation
from registry_core.wire.shapes import CoordinatorInfo, Heartbeat, HeartbeatReply, Registration, RegistrationReply

__all__ = ["route_table"]

_JSON = "application/json"


def route_table(heartbeats: Heartbeats, registrations: Registrations) -> list[Route]:
    """All routes. Each answers errors as RFC 9457 problems (`registry_core.wire.problems`)."""
    rows = [
        # For nodes
        Route(
            "PUT",
            "/v1/nodes/{node_id}",
            registrations,
            "Register a node, or update its description",
            "nodes",
            {_JSON: RegistrationReply},
            takes_token=True,
            reads=Registration,
            example={"node": {"id": "worker-1", "ip_address": "192.0.2.7"}, "generation": 1},
            is_asgi=True,
            any_host=True,  # the signature or token proves the caller
            name="register",
            description="Needs a signature of the node's key (RFC 9421), or an operator's token.",
        ),
        Route(
            "PUT",
            "/v1/nodes/{node_id}/heartbeat",
            heartbeats,
            "Report that the node is alive, with its newest sample",
            "nodes",
            {_JSON: HeartbeatReply},
            takes_token=True,
            reads=Heartbeat,
            example={"sequence": 7, "load_average": 0.5, "memory_usage": 41.5, "disk_usage": 63.2},
            is_asgi=True,
            any_host=True,  # as above
            name="heartbeat",
            description="Needs the session's token.",
        ),
        Route(
            "POST",
            "/v1/nodes/{node_id}/leave",
            leave,
            "Report that the node leaves",
            "nodes",
            {_JSON: Outcome},
            takes_token=True,
        ),
        Route("DELETE", "/v1/nodes/{node_id}", remove, "Remove a node", "nodes", status=204, takes_token=True),
        # For everyone
        Route(
            "GET",
            "/v1/nodes",
            list_nodes,
            "List the nodes that meet every condition, best reputation first",
            "read",
            {_JSON: NodePage},
        ),
        Route("GET", "/v1/count", count_nodes, "Count the nodes that meet every condition", "read", {_JSON: Count}),
        Route("GET", "/v1/nodes/{node_id}", show_node, "Show a node", "read", {_JSON: NodeView}),
        Route(
            "GET",
            "/v1/nodes/{node_id}/reputation",
            show_reputation,
            "Show a node's reputation and the evidence for it",
            "read",
            {_JSON: Reputation},
        ),
        Route(
            "GET",
            "/v1/nodes/{node_id}/explain",
            explain_node,
            "Explain why a query does not select a node",
            "read",
            {_JSON: Explanation},
        ),
        Route(  # a node needs it before it can sign
            "GET",
            "/v1/coordinator",
            show_coordinator,
            "Show the coordinator's identity and settings",
            "read",
            {_JSON: CoordinatorInfo},
            any_host=True,
        ),
        # For raters and operators
        Route(
            "POST",
            "/v1/nodes/{node_id}/outcomes",
            report_outcome,
            "Report whether a task on the node succeeded",
            "operate",
            {_JSON: Reputation},
            needs=Permission.RATE,
            example={"success": True, "task_id": "job-4711", "dimension": "correctness", "weight": 1.0},
        ),
        Route(
            "PUT",
            "/v1/nodes/{node_id}/admission",
            change_admission,
            "Approve, suspend or ban a node, or put it on probation",
            "operate",
            {_JSON: NodeView},
            needs=Permission.OPERATE,
            example={"admission": "suspended", "reason": "wrong results since Monday"},
        ),
        Route(
            "PUT",
            "/v1/nodes/{node_id}/cordon",
            cordon,
            "Stop giving new work to a node",
            "operate",
            {_JSON: NodeView},
            needs=Permission.OPERATE,
            example={"reason": "new disk", "until": "2030-01-01T12:00:00Z"},
        ),
        Route(
            "DELETE",
            "/v1/nodes/{node_id}/cordon",
            uncordon,
            "Allow new work for a node again",
            "operate",
            {_JSON: NodeView},
            needs=Permission.OPERATE,
        ),
        Route(
            "PUT",
            "/v1/nodes/{node_id}/wallet-proof",
            attach_wallet,
            "Prove that a node belongs to the wallet that it names",
            "operate",
            {_JSON: Reputation},
            needs=Permission.OPERATE,
            example={"signature": "0x5d99…1b"},
        ),
        # For monitoring
        Route(
            "GET",
            "/v1/events",
            show_events,
            "List or stream events",
            "watch",
            {_JSON: EventPage, "text/event-stream": str},
        ),
        Route(
            "GET",
            "/metrics",
            metrics,
            "Metrics for Prometheus",
            "watch",
            {"text/plain": str, "application/openmetrics-text": str},
        ),
        Route(
            "GET",
            "/v1/sd/prometheus",
            service_discovery,
            "Targets for Prometheus' http_sd",
            "watch",
            {_JSON: list[ScrapeTarget]},
            takes_token=True,
        ),
        Route(
            "GET",
            "/healthz",
            healthz,
            "Check whether the coordinator is alive",
            "watch",
            {_JSON: StatusView},
            any_host=True,
        ),
        Route(
            "GET",
            "/readyz",
            readyz,
            "Check whether the lists are complete after a start",
            "watch",
            {_JSON: StatusView},
            any_host=True,
        ),
    ]
    document = msgspec.json.encode(openapi_document(rows))
    return [*rows, *_pages(document)]


def _pages(document: bytes) -> list[Route]:
    """The OpenAPI document, and the page at `/` that shows it: one HTML file that fetches nothing from other servers.

    Its links are relative, since a proxy may serve it below another path.
    """
    page = Path(__file__).parents[1].joinpath("http", "api.html").read_bytes()
    security = page_security(page)

    def show_page() -> Response:
        return Response(page, b"text/html; charset=utf-8", security=security)

    def show_document() -> Response:
        return Response(document, JSON)

    return [
        Route("GET", "/", show_page, "A page that shows this description", is_documented=False),
        Route("GET", "/openapi.json", show_document, "This description", is_documented=False),
    ]
