"""The options that several commands share: configuration, format, registry and conditions on nodes.

The options for conditions are made from the table of conditions. An option of a single command is in its module.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce, wraps
from typing import TYPE_CHECKING, Any, Callable, Optional

import click

from duxnet.cli.group import SectionOption
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

config_option = click.option("--config", metavar="FILE", help="Read this configuration file, which must exist.")
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["plain", "json"]),
    help="Write log lines for people or for programs. Default: plain.",
)


def _set_color(context: click.Context, _option: click.Parameter, value: str) -> None:
    context.color = {"always": True, "never": False}.get(value)


def format_option(command: Command) -> Command:
    """`--format` (`-o`) and `--color`; the command gets the format as `output`."""
    chosen = click.option(
        "-o",
        "--format",
        "output",
        type=click.Choice(["table", "json"]),
        default="table",
        help="Print a table for people or JSON for programs. Default: table.",
    )
    color = click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        expose_value=False,
        callback=_set_color,
        help="Show states in colour. Default: auto, in a terminal without NO_COLOR.",
    )
    return chosen(color(command))


def state_dir_option(text: str) -> Callable[[Command], Command]:
    """`--state-dir` with the help text of one command."""
    return click.option("--state-dir", metavar="DIR", help=text)


local_state_dir_option = state_dir_option("The state directory of the agent. Default: the configured one.")


def with_conditions(command: Command) -> Command:
    """An option for every condition of the table; the command gets them as `**given`, for `query_of`."""
    parameters = [parameter for condition in CONDITIONS for parameter in condition.parameters]
    is_gpu = [parameter.name.startswith("gpu") for parameter in parameters]
    command = _with([item for item, gpu in zip(parameters, is_gpu) if gpu], "GPU conditions", command)
    return _with([item for item, gpu in zip(parameters, is_gpu) if not gpu], "Conditions", command)


def with_order(command: Command) -> Command:
    """Options for the order and the page of a list; the command gets the order as `with_conditions` does."""
    after = _paging("--after", metavar="CURSOR", help="Continue after this cursor: `next` of the previous page.")
    limit = _paging("--limit", type=int, help="Show at most this many nodes.")
    return _with(ORDER_PARAMETERS, _ORDER, limit(after(command)))


def query_of(given: dict[str, Any], limit: Optional[int] = None, after: Optional[str] = None) -> NodeQuery:
    """The query that the options make."""
    from registry_core.query.node_query import NodeQuery

    named = {name: value for name, value in given.items() if value is not None and value != ()}
    return NodeQuery.from_parameters(named, limit, after)


_ORDER = "Order and pages"
_paging = partial(click.option, cls=SectionOption, section=_ORDER)


def _with(parameters: Sequence[Parameter], section: str, command: Command) -> Command:
    return reduce(lambda decorated, parameter: _option(parameter, section)(decorated), reversed(parameters), command)


def _option(parameter: Parameter, section: str) -> Callable[[Command], Command]:
    """`--name-with-dashes`. An option that is not given is None, or an empty tuple if it is repeatable."""
    flag = f"--{parameter.option or parameter.name.replace('_', '-')}"
    text = f"{parameter.help}."
    if parameter.kind is bool:
        return click.option(
            flag, parameter.name, cls=SectionOption, section=section, is_flag=True, default=None, help=text
        )
    kind = click.Choice(parameter.words) if parameter.words else parameter.kind
    return click.option(
        flag,
        parameter.name,
        cls=SectionOption,
        section=section,
        type=kind,
        multiple=parameter.many,
        metavar=parameter.metavar,
        help=text,
    )


def key_and_value(text: str) -> tuple[str, str]:
    """The key and the value of a tag."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!a} is not KEY=VALUE", param_hint="--tag")
    return key, value


_registry = click.option(
    "--registry",
    metavar="PATH-or-URL",
    help="Use this registry. Default: $DUXNET_REGISTRY, else registry.target of the configuration, else the registry "
    "of the agent on this machine.",
)


def with_registry(command: Command) -> Command:
    """`--registry` and `--config`. The command gets `opened`, used as `with opened(read_only=True) as client`."""

    @wraps(command)
    def prepared(registry: Optional[str], config: Optional[str], **given: Any) -> int:
        from duxnet.cli.registry_client import open_client

        return command(opened=partial(open_client, registry, config), **given)

    return _registry(config_option(prepared))
