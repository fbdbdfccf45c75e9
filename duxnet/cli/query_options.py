"""The options by which commands ask for nodes: those of the table of conditions, and which registry is asked.

Here: from a row's parameters to click's options. Not here: pages, which are `nodes list`'s own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from registry_core.query.conditions import CONDITIONS, Parameter
from registry_core.query.node_query import ORDER_PARAMETERS

if TYPE_CHECKING:
    from registry_core.query.node_query import NodeQuery

__all__ = ["key_and_value", "query_of", "with_conditions", "with_order", "with_registry"]

Command = Callable[..., int]


def with_conditions(command: Command) -> Command:
    """Every condition of the table; the command gets them as `**asked`, for `query_of`."""
    return _with([parameter for condition in CONDITIONS for parameter in condition.parameters], command)


def with_order(command: Command) -> Command:
    """The order of a list; as `with_conditions`."""
    return _with(ORDER_PARAMETERS, command)


def query_of(asked: dict[str, Any], limit: Optional[int] = None, after: Optional[str] = None) -> NodeQuery:
    """The question that the options ask."""
    from registry_core.query.node_query import NodeQuery

    given = {name: value for name, value in asked.items() if value is not None and value != ()}
    return NodeQuery.from_parameters(given, limit, after)


def _with(parameters: Sequence[Parameter], command: Command) -> Command:
    return reduce(lambda decorated, parameter: _option(parameter)(decorated), reversed(parameters), command)


def _option(parameter: Parameter) -> Callable[[Command], Command]:
    """`--name-with-dashes`; what is not given is None, or an empty tuple where it may come several times."""
    flag = f"--{parameter.option or parameter.name.replace('_', '-')}"
    text = f"{parameter.help}."
    if parameter.kind is bool:
        return click.option(flag, parameter.name, is_flag=True, default=None, help=text)
    kind = click.Choice(parameter.words) if parameter.words else parameter.kind
    return click.option(flag, parameter.name, type=kind, multiple=parameter.many, metavar=parameter.metavar, help=text)


def key_and_value(text: str) -> tuple[str, str]:
    """A tag."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!a} is not KEY=VALUE", param_hint="--tag")
    return key, value


_registry = click.option(
    "--registry",
    metavar="PATH-or-URL",
    help="Default: $DUXNET_REGISTRY, then the configuration, then the agent on this machine.",
)
_config = click.option("--config", metavar="FILE", help="Configuration file; it must be there.")


def with_registry(command: Callable[..., int]) -> Callable[..., int]:
    """`--registry` and `--config`."""
    return _registry(_config(command))
