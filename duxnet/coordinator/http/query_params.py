"""The query strings of routes: one record for each, from which both the parser and the documentation follow.

The parameters that select nodes are in `registry_core.query.url`. Here: the parameters that routes add, parsing, and
the OpenAPI description. Not here: answering.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property, lru_cache
from typing import Annotated, Any, Optional, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from duxnet.coordinator.errors import Refused
from registry_core.errors import shown
from registry_core.query.node_query import NodeQuery
from registry_core.query.url import REPEATABLE, Filters

__all__ = ["Discovery", "EventsQuery", "Listing", "parse_query", "parameters_of"]

Q = TypeVar("Q", bound=msgspec.Struct)

DEFAULT_LIMIT = 100
MOST_NODES = 1000
LONGEST_WAIT_SECONDS = 30.0
MOST_PARAMETERS = 2_000
"""Maximum in one query string, checked before parsing. Only a query that excludes many nodes comes near it."""
_LONGEST_GUESSED_AT = 64
LONGEST_REMEMBERED_BYTES = 256

Index = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Listing(Filters, frozen=True, dict=True):
    """A page of nodes."""

    limit: Annotated[int, Meta(ge=1, le=MOST_NODES)] = DEFAULT_LIMIT
    after: Annotated[
        Optional[Annotated[str, Meta(max_length=128)]], Meta(description="The cursor `next` of the page before")
    ] = None

    @cached_property
    def page_query(self) -> NodeQuery:
        """Returns the checked query for this page. Raises ValidationError that names the parameter."""
        return self.query(self.limit, self.after)


class Discovery(Filters, frozen=True):
    """Targets for Prometheus."""

    scrape_port: Annotated[int, Meta(ge=0, le=65535, description="Use this port instead of each node's own")] = 0


class EventsQuery(msgspec.Struct, frozen=True):
    """Which events to return."""

    since: Annotated[Optional[Index], Meta(description="Events with a higher index; by default only new ones")] = None
    wait_seconds: Annotated[
        float, Meta(ge=0, le=LONGEST_WAIT_SECONDS, description="How long to wait for the first event")
    ] = 0.0


def parse_query(query_string: bytes, kind: type[Q]) -> Q:
    """Parses a query string.

    Raises Refused for a value out of bounds, a repeated parameter that allows one value, and an unknown parameter. If
    unknown ones were ignored, a query with a misspelt condition would return nodes that do not meet it.
    """
    if len(query_string) <= LONGEST_REMEMBERED_BYTES:
        return cast("Q", _remembered(query_string, kind))
    return _read(query_string, kind)


@lru_cache(maxsize=512)
def _remembered(query_string: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """As `_read`, cached: programs send the same query again and again."""
    return _read(query_string, kind)


def _read(query_string: bytes, kind: type[Q]) -> Q:
    known = kind.__struct_fields__
    given: dict[str, Any] = {}
    for name, value in _pairs(query_string):
        if name not in known:
            raise Refused(
                "unknown-parameter", f"{shown(name)} is not a parameter of this endpoint; {_hint(name, known)}"
            )
        if name in REPEATABLE:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Refused("invalid", f"{shown(name)}: is given more than once")
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        rule, _, place = str(error).partition(" - at `$.")
        raise Refused("invalid", f"{place.partition('[')[0].rstrip('`')}: {rule}") from None


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    """Decoded names and values. Raises Refused."""
    try:
        text = query_string.decode("ascii")
        if "%" not in text and "+" not in text and text.count("&") < MOST_PARAMETERS:  # usual, and 3 times as fast
            return [(name, value) for name, _, value in [part.partition("=") for part in text.split("&") if part]]
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise Refused(
            "invalid", f"the query must be percent-encoded UTF-8 with at most {MOST_PARAMETERS} parameters"
        ) from None


def _hint(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower(), known, 1) if len(name) <= _LONGEST_GUESSED_AT else []
    return f"did you mean {near[0]}?" if near else f"the parameters are {', '.join(known)}"


def parameters_of(kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """The parameters of a query record as OpenAPI describes them."""
    _, components = msgspec.json.schema_components([kind])
    fields: Mapping[str, Mapping[str, Any]] = components[kind.__name__]["properties"]
    return [_parameter(name, plain) for name, plain in ((name, fields[name]) for name in kind.__struct_fields__)]


def _parameter(name: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Removes null from the types: a query string has no null."""
    schema = dict(next((each for each in plain.get("anyOf", ()) if each.get("type") != "null"), plain))
    words = schema.pop("description", None) or plain.get("description")
    schema.pop("default", None)
    if plain.get("default"):
        schema["default"] = plain["default"]
    parameter = {"name": name, "in": "query", "required": False, "schema": schema}
    return {**parameter, "description": words} if words else parameter
