"""The OpenAPI document, made from the table of routes, and the schemas of answers that are no stored records.

Here: descriptions only. `models.encoding` writes the answers, as it does for files and commands; their schemas follow
from the records that it writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from http import HTTPStatus
from typing import Any, Optional, Union, get_type_hints

import msgspec

from duxnet.coordinator.http.query_params import parameters_of
from duxnet.coordinator.http.routing import Route
from registry_core.events import Event
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Conditions, Cordon, NodeHealth
from registry_core.query.conditions import Failing
from registry_core.version import __version__
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem
from registry_core.wire.shapes import Gap

__all__ = [
    "Count",
    "EventPage",
    "Explanation",
    "NodePage",
    "NodeView",
    "Outcome",
    "ScrapeTarget",
    "StatusView",
    "openapi_document",
]

_TOKEN = "token"  # noqa: S105 - the name of the scheme in the document
_ONLY_WITH_TOKEN = ("ip_address", "addresses")
_WRITTEN_WHOLE = (Gpu, NodeCapabilities, NodeHealth, Conditions, Cordon, Reputation, Evidence)
"""Records that `models.encoding` writes with every field, also fields with default values."""


def _node_view() -> Any:
    hints = get_type_hints(Node)
    written = [item.name for item in fields(Node) if item.name not in ("extra", *_ONLY_WITH_TOKEN)]
    return msgspec.defstruct(
        "NodeView",
        [
            *((name, hints[name]) for name in written),
            ("is_healthy", bool),
            ("is_ready", bool),
            *((name, Union[hints[name], msgspec.UnsetType], msgspec.UNSET) for name in _ONLY_WITH_TOKEN),
            ("extra", Union[dict[str, Any], msgspec.UnsetType], msgspec.UNSET),
            ("last_gap", Union[Gap, msgspec.UnsetType], msgspec.UNSET),
        ],
        module=__name__,
        namespace={
            "__doc__": "One node as it is now. Callers with a token see its addresses. `extra` holds fields that it "
            "sent and this version does not know; `last_gap` is the last outage that it reported since the start."
        },
    )


NodeView = _node_view()


class NodePage(msgspec.Struct):
    """A page of nodes, and the cursor of the next page (null: there is none). `degraded`: silent nodes may be alive.

    `damaged` is the number of nodes that are missing in every list because their stored records cannot be read.
    """

    schema: str
    nodes: list[NodeView]  # type: ignore[valid-type]  # made of the record's fields at run time
    next: Optional[str]
    degraded: bool
    damaged: int


class Count(msgspec.Struct):
    """The number of nodes that match a query."""

    count: int


class Explanation(msgspec.Struct):
    """Whether a node matches a query, and if not, why not."""

    selected: bool
    failing: list[Failing]


class Outcome(msgspec.Struct):
    """The request was carried out."""

    done: bool


class StatusView(msgspec.Struct):
    """The coordinator's own state."""

    status: str
    degraded: bool
    breakers: list[str]
    time: str


class EventPage(msgspec.Struct):
    """Events after an index. Pass `last` as `since` of the next request."""

    events: list[Event]
    last: int


class ScrapeTarget(msgspec.Struct):
    """One node for Prometheus' http_sd."""

    targets: list[str]
    labels: dict[str, str]


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Returns the document: OpenAPI 3.1."""
    documented = [route for route in routes if route.is_documented]
    kinds = {kind for route in documented for kind in (route.body, *route.answers.values()) if kind is not None}
    ordered = sorted(kinds, key=str)
    schemas, components = msgspec.json.schema_components(
        [*ordered, Problem], ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(ordered, schemas))
    for record in _WRITTEN_WHOLE:
        schema = components[record.__name__]
        schema["required"] = list(schema["properties"])
        for shape in schema["properties"].values():
            shape.pop("default", None)
    paths: dict[str, dict[str, Any]] = {}
    for route in documented:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "DuxNet coordinator", "version": __version__},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"Problem{status}": _problems_of(status) for status in _PROBLEM_STATUSES},
            "securitySchemes": {_TOKEN: {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        parameters += parameters_of(route.query)
    content = {media_type: {"schema": schema_of[kind]} for media_type, kind in route.answers.items()}
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    responses: dict[str, Any] = {str(route.status): {**success, "content": content} if content else success}
    responses.update((str(status), {"$ref": f"#/components/responses/Problem{status}"}) for status in _PROBLEM_STATUSES)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": route.description,
        "tags": [route.tag],
        "parameters": parameters,
        "responses": responses,
    }
    if route.body is not None:
        media: dict[str, Any] = {"schema": schema_of[route.body]}
        if route.example is not None:
            media["example"] = route.example
        operation["requestBody"] = {"required": True, "content": {"application/json": media}}
    if route.needs is not None:
        operation["security"] = [{_TOKEN: []}]
    elif route.takes_token:
        operation["security"] = [{_TOKEN: []}, {}]
    return operation


_PROBLEM_STATUSES = sorted({kind.status for kind in KINDS.values()})


def _problems_of(status: int) -> dict[str, Any]:
    titles = "; ".join(kind.title for kind in KINDS.values() if kind.status == status)
    return {
        "description": titles,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
    }
