"""Query strings: reading them, and their OpenAPI.

The parameters that ask for nodes are the table's (`registry_core.query.url`); those that a route has beside stand in a
record of its own, from which both the parser and the documentation follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Optional, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from msgspec import Meta

from duxnet.coordinator.errors import Refused
from registry_core.errors import ValidationError, shown
from registry_core.query.url import PARAMETER_NAMES, REPEATABLE, parameters_from_text

__all__ = ["EventsAsked", "NoMore", "Paging", "Scraping", "operation_of", "parse_node_query", "parse_query"]

DEFAULT_LIMIT = 100
MOST_NODES = 1000
LONGEST_WAIT_SECONDS = 30.0
MOST_PARAMETERS = 2_000
"""In one query string; what is beyond is refused before it is read. The longest honest one excludes many nodes."""
_LONGEST_GUESSED_AT = 64

Index = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class NoMore(msgspec.Struct, frozen=True):
    """Nothing beside the conditions."""


class Paging(msgspec.Struct, frozen=True):
    """Which part of a list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_NODES)] = DEFAULT_LIMIT
    after: Annotated[
        Optional[Annotated[str, Meta(max_length=128)]], Meta(description="The cursor of an earlier answer")
    ] = None


class Scraping(msgspec.Struct, frozen=True):
    """Targets for Prometheus."""

    scrape_port: Annotated[int, Meta(ge=0, le=65535, description="In place of each node's own port")] = 0


class EventsAsked(msgspec.Struct, frozen=True):
    """What happened, from when on."""

    since: Annotated[Optional[Index], Meta(description="Events with a higher index; absent: new ones")] = None
    wait_seconds: Annotated[
        float, Meta(ge=0, le=LONGEST_WAIT_SECONDS, description="How long to wait for the first")
    ] = 0.0


Q = TypeVar("Q", bound=msgspec.Struct)


def parse_query(query_string: bytes, kind: type[Q]) -> Q:
    """The question in a query string, where it is not about nodes. Raises Refused as `parse_node_query`."""
    return _converted(_pairs(query_string, kind.__struct_fields__), kind)


def parse_node_query(query_string: bytes, more: type[Q]) -> tuple[dict[str, Any], Q]:
    """The parameters for `NodeQuery.from_parameters` in a query string, and what the route takes beside them.

    Raises Refused for a value out of bounds, for a parameter that comes twice where one is meant, and for one that the
    question does not have: passed over, a misspelt condition would find nodes that do not meet it.
    """
    own = more.__struct_fields__
    given = _pairs(query_string, (*PARAMETER_NAMES, *own))
    beside = {name: given.pop(name) for name in own if name in given}
    try:
        return parameters_from_text(given), _converted(beside, more)
    except ValidationError as error:
        raise Refused("invalid", f"{error.field}: {error.rule}") from None


def _pairs(query_string: bytes, known: Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:
        raise Refused(
            "invalid", f"the query is not percent-encoded UTF-8, or has over {MOST_PARAMETERS} parts"
        ) from None
    for name, value in pairs:
        if name not in known:
            raise Refused("unknown-parameter", f"{shown(name)} is no parameter here; {_instead(name, known)}")
        if name in REPEATABLE:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Refused("invalid", f"{shown(name)} came more than once")
        else:
            given[name] = value
    return given


def _converted(given: Mapping[str, Any], kind: type[Q]) -> Q:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        rule, _, place = str(error).partition(" - at `$.")
        raise Refused("invalid", f"{place.rstrip('`')}: {rule}") from None


def _instead(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name.lower(), known, 1) if len(name) <= _LONGEST_GUESSED_AT else []
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def operation_of(*kinds: type) -> type[Operation]:
    """The kind of operation whose OpenAPI has the parameters of all these records."""
    parameters = [parameter for kind in kinds for parameter in _documented(kind)]

    @dataclass
    class Asking(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]

    return Asking


def _documented(kind: type) -> list[Parameter]:
    _, components = msgspec.json.schema_components([kind])
    fields: Mapping[str, Mapping[str, Any]] = components[kind.__name__]["properties"]
    return [
        Parameter(name=name, param_in="query", required=False, schema=_schema(plain), description=_words(plain))
        for name, plain in ((name, fields[name]) for name in kind.__annotations__)
    ]


def _words(plain: Mapping[str, Any]) -> Optional[str]:
    return cast("Optional[str]", plain.get("description"))


def _schema(plain: Mapping[str, Any]) -> Schema:
    """One field's JSON schema as the framework keeps it. That it may be absent needs no null: a query has none."""
    bounds = next((each for each in plain.get("anyOf", ()) if each.get("type") != "null"), plain)
    return Schema(
        type=OpenAPIType(bounds.get("type", "string")),
        items=_schema(bounds["items"]) if "items" in bounds else None,
        enum=bounds.get("enum"),
        minimum=bounds.get("minimum"),
        maximum=bounds.get("maximum"),
        max_length=bounds.get("maxLength"),
        default=plain.get("default") or None,
    )
