"""The options that several commands share: configuration, format, which registry, and which nodes.

Options for nodes are made from the table of conditions. An option of one command alone stands at that command.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce, wraps
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from registry_core.query.conditions import CONDITIONS, Parameter
from registry_core.query.node_query import ORDER_PARAMETERS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from duxnet.cli.registry_client import RegistryClient
    from registry_core.query.node_query import NodeQuery

__all__ = [
    "Opener", "config_option", "format_option", "key_and_value", "local_state_dir_option", "log_format_option",
    "query_of", "state_dir_option", "with_conditions", "with_order", "with_registry",
]  # fmt: skip

Command = Callable[..., int]
Opener = Callable[..., "AbstractContextManager[RegistryClient]"]

config_option = click.option("--config", metavar="FILE", help="Configuration file; it must be there.")
format_option = click.option(
    "--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
log_format_option = click.option(
    "--log-format", type=click.Choice(["plain", "json"]), help="Log lines for people or for programs."
)


def state_dir_option(text: str) -> Callable[[Command], Command]:
    """`--state-dir`, with a help text that says whose."""
    return click.option("--state-dir", metavar="DIR", help=text)


local_state_dir_option = state_dir_option("State directory of the agent, if not the configured one.")


def with_conditions(command: Command) -> Command:
    """Every condition of the table; the command gets them as `**given`, for `query_of`."""
    return _with([parameter for condition in CONDITIONS for parameter in condition.parameters], command)


def with_order(command: Command) -> Command:
    """The order of a list; as `with_conditions`."""
    return _with(ORDER_PARAMETERS, command)


def query_of(given: dict[str, Any], limit: Optional[int] = None, after: Optional[str] = None) -> NodeQuery:
    """The question that the options ask."""
    from registry_core.query.node_query import NodeQuery

    named = {name: value for name, value in given.items() if value is not None and value != ()}
    return NodeQuery.from_parameters(named, limit, after)


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


def with_registry(command: Command) -> Command:
    """`--registry` and `--config`; the command gets `opened`: `with opened(read_only=True) as client` opens it."""

    @wraps(command)
    def prepared(registry: Optional[str], config: Optional[str], **given: Any) -> int:
        from duxnet.cli.registry_client import open_client

        return command(opened=partial(open_client, registry, config), **given)

    return _registry(config_option(prepared))
