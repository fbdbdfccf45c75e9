"""Queries as the parameters of a URL: the client writes them, the coordinator reads them.

Names and bounds come from the table in `conditions`. This module converts values to text, and defines the record with
which msgspec validates them and from which the OpenAPI description is generated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs

from registry_core.query.conditions import CONDITIONS, Parameter
from registry_core.query.node_query import ORDER_PARAMETERS, NodeQuery

__all__ = ["PARAMETER_NAMES", "REPEATABLE", "Filters", "parameters_to_text"]

_PARAMETERS = (*(parameter for condition in CONDITIONS for parameter in condition.parameters), *ORDER_PARAMETERS)
PARAMETER_NAMES = tuple(parameter.name for parameter in _PARAMETERS)
"""The parameters of every query for nodes, in the table's order."""
REPEATABLE = frozenset(parameter.name for parameter in _PARAMETERS if parameter.many)
"""Parameters that can be repeated."""


def _type_of(parameter: Parameter) -> Any:
    """The parameter's type, from which msgspec validates and documents it."""
    if parameter.words:
        return Annotated[Literal[parameter.words], Meta(description=parameter.help)]
    if parameter.kind is str:
        longest = None if parameter.most is None else int(parameter.most)
        bounds = Meta(max_length=longest)
    else:
        bounds = Meta(ge=parameter.least, le=parameter.most)
    one = Annotated[parameter.kind, bounds]  # type: ignore[name-defined]  # the table's
    whole = tuple[one, ...] if parameter.many else one
    return Annotated[whole, Meta(description=parameter.help)]


class _Filters(msgspec.Struct, frozen=True):
    def query(self, limit: Optional[int] = None, after: Optional[str] = None) -> NodeQuery:
        """The validated query. Raises ValidationError naming the parameter."""
        values = structs.asdict(self)
        given = {name: values[name] for name in PARAMETER_NAMES if values[name] is not UNSET}
        return NodeQuery.from_parameters(given, limit, after)


if TYPE_CHECKING:
    Filters = _Filters
else:
    Filters = msgspec.defstruct(
        "Filters",
        [(parameter.name, Union[_type_of(parameter), UnsetType], UNSET) for parameter in _PARAMETERS],
        bases=(_Filters,),
        frozen=True,
    )
"""The parameters of every query for nodes; an absent one accepts every node. Convert texts with
`msgspec.convert(given, Filters, strict=False)`."""


def parameters_to_text(query: NodeQuery) -> dict[str, Union[str, list[str]]]:
    """The parameters of `query`, except its limit and cursor."""
    return {name: _text_of(value) for name, value in query.to_parameters().items()}


def _text_of(value: Any) -> Union[str, list[str]]:
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
