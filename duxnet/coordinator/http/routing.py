"""Routing: the record of a route, calling its handler, and finding the route of a path.

Not here: the routes themselves (`routes.table`), their OpenAPI description (`openapi`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple, Optional, get_type_hints

from duxnet.coordinator.access.roles import Access, Permission
from duxnet.coordinator.http.messages import Request, body_as
from duxnet.coordinator.http.query_params import parse_query

__all__ = ["Found", "Route", "Router"]


@dataclass(frozen=True)
class Route:
    """One route. The names of the handler's parameters select its arguments:

    `coordinator` and `request` are passed as they are; `caller` comes from the bearer token; `query` and `body` are
    parsed as the record that they are annotated with; any other name is a parameter of the path. A handler that never
    waits is a plain function; it may return an awaitable for the calls that do wait.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    summary: str
    tag: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict)  # type of a success by media type; empty: no content
    status: int = 200
    needs: Optional[Permission] = None
    takes_token: bool = False  # the handler itself checks the caller's permission
    reads: Optional[type] = None  # the body's type, if the handler itself decodes it
    example: Optional[Mapping[str, Any]] = None  # a body
    is_asgi: bool = False  # the handler takes scope, receive, send and the path's parameters
    any_host: bool = False  # answer under any host name: see `access.browsers`
    is_documented: bool = True
    name: str = ""  # "": the handler's name
    description: str = ""  # "": the handler's docstring
    parameters: frozenset[str] = field(init=False)
    query: Optional[type] = field(init=False)
    body: Optional[type] = field(init=False)
    waits: bool = field(init=False)

    def __post_init__(self) -> None:
        hints = {} if self.is_asgi else get_type_hints(self.handler)
        put = object.__setattr__
        put(self, "parameters", frozenset(hints) - {"return"})
        put(self, "query", hints.get("query"))
        put(self, "body", hints.get("body") or self.reads)
        put(self, "waits", self.is_asgi or inspect.iscoroutinefunction(self.handler))
        if not self.is_asgi:
            put(self, "takes_token", self.takes_token or "caller" in hints)
            put(self, "name", self.name or self.handler.__name__)
            put(self, "description", self.description or inspect.getdoc(self.handler) or "")

    def call(self, coordinator: Any, access: Access, request: Request, parts: Mapping[str, str]) -> Any:
        """Calls the handler. Returns its answer or an awaitable of it. Raises RegistryError."""
        given: dict[str, Any] = dict(parts)
        if "coordinator" in self.parameters:
            given["coordinator"] = coordinator
        if "request" in self.parameters:
            given["request"] = request
        if self.needs is not None or "caller" in self.parameters:
            caller = access.caller(request.header(b"authorization"))
            if self.needs is not None:
                caller.need(self.needs)
            if "caller" in self.parameters:
                given["caller"] = caller
        if self.query is not None:
            given["query"] = parse_query(request.query_string, self.query)
        if "body" in self.parameters:
            given["body"] = body_as(request.body, self.body or object)
        return self.handler(**given)


class Found(NamedTuple):
    """The routes of a path by method, and the values of the path's parameters."""

    by_method: Mapping[str, Route]
    parts: Mapping[str, str]


class _Place:
    """One segment in the tree of all paths."""

    def __init__(self) -> None:
        self.by_name: dict[str, _Place] = {}
        self.parameter: Optional[tuple[str, _Place]] = None
        self.by_method: dict[str, Route] = {}


class Router:
    """Finds routes. A path must match exactly: `/v1/nodes/` is not `/v1/nodes`."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Place()
        self._exact: dict[str, Found] = {}  # paths without a parameter
        for route in routes:
            place = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    if place.parameter is None:
                        place.parameter = (segment.strip("{}"), _Place())
                    place = place.parameter[1]
                else:
                    place = place.by_name.setdefault(segment, _Place())
            if place.by_method.setdefault(route.method, route) is not route:
                raise ValueError(f"{route.method} {route.path} is in the table twice")
            if "{" not in route.path:
                self._exact[route.path] = Found(place.by_method, {})

    def find(self, path: str) -> Optional[Found]:
        """Returns the routes of this path, or None."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        place, parts = self._root, {}
        for segment in path.split("/")[1:]:
            known = place.by_name.get(segment)
            if known is not None:
                place = known
            elif place.parameter is not None and segment:
                name, place = place.parameter
                parts[name] = segment
            else:
                return None
        return Found(place.by_method, parts) if place.by_method and path.startswith("/") else None
