"""Queries as the parameters of a URL, there and back: the client writes them, the coordinator reads them.

The names and bounds are the table's (`conditions`). Here: the texts in which values travel, and their check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict, Union, cast

import msgspec
from msgspec import Meta

from registry_core.errors import ValidationError
from registry_core.query.conditions import CONDITIONS, Parameter
from registry_core.query.node_query import ORDER_PARAMETERS, NodeQuery

__all__ = ["PARAMETER_NAMES", "REPEATABLE", "QueryParameters", "parameters_from_text", "parameters_to_text"]

_PARAMETERS = (*(parameter for condition in CONDITIONS for parameter in condition.parameters), *ORDER_PARAMETERS)
PARAMETER_NAMES = tuple(parameter.name for parameter in _PARAMETERS)
"""Of every question about nodes, in the table's order."""
REPEATABLE = frozenset(parameter.name for parameter in _PARAMETERS if parameter.many)
"""Parameters that may come several times."""


def _type_of(parameter: Parameter) -> Any:
    """The parameter as msgspec checks and documents it."""
    if parameter.words:
        return Annotated[Literal[parameter.words], Meta(description=parameter.help)]
    if parameter.kind is str:
        longest = None if parameter.most is None else int(parameter.most)
        bounds = Meta(max_length=longest)
    else:
        bounds = Meta(ge=parameter.least, le=parameter.most)
    one = Annotated[parameter.kind, bounds]  # type: ignore[name-defined]  # as above
    whole = tuple[one, ...] if parameter.many else one
    return Annotated[whole, Meta(description=parameter.help)]


QueryParameters = TypedDict(  # type: ignore[misc]  # its fields are the table's
    "QueryParameters", {parameter.name: _type_of(parameter) for parameter in _PARAMETERS}, total=False
)
"""The parameters of every question about nodes; each may be absent."""


def parameters_from_text(given: Mapping[str, Union[str, list[str]]]) -> dict[str, Any]:
    """Values in their own types, for `NodeQuery.from_parameters`, of texts; those of `REPEATABLE` are lists of texts.

    Raises ValidationError naming the parameter; one that is not known is passed over.
    """
    try:
        return cast("dict[str, Any]", msgspec.convert(given, QueryParameters, strict=False))
    except msgspec.ValidationError as error:
        rule, _, place = str(error).partition(" - at `$.")
        name = place.partition("[")[0].rstrip("`")
        raise ValidationError(name, given.get(name), rule) from None


def parameters_to_text(query: NodeQuery) -> dict[str, Union[str, list[str]]]:
    """The parameters that ask `query`, its limit and cursor left out."""
    return {name: _text_of(value) for name, value in query.to_parameters().items()}


def _text_of(value: Any) -> Union[str, list[str]]:
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
