"""The top of the command line as click sees it: help, unknown commands, completion. Commands load at their use."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Optional

import click

from duxnet.cli import COMMANDS, loaded
from registry_core.version import __version__

__all__ = ["EXIT_CODES", "SuggestingGroup", "group"]

EXIT_CODES = {"0": "done", "1": "failed", "2": "wrong usage", "3": "partly done", "78": "bad configuration"}


class SuggestingGroup(click.Group):
    """A group that answers a mistyped command with the one that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        """As click's, with a suggestion."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            known = f"did you mean {close[0]}?" if close else f"there are {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"there is no command {name!a}; {known}")
        return super().resolve_command(ctx, args)


class _LazyGroup(SuggestingGroup):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        return click_command(cmd_name)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_module, _attribute, line) in COMMANDS.items()])


def click_command(name: str) -> click.Command:
    """What stands in the table under `name`, or what its module's `command()` makes, with help and completion."""
    found = loaded(name)
    if not isinstance(found, click.Command):
        found = import_module(COMMANDS[name][0]).command()
    assert isinstance(found, click.Command)
    return found


def group() -> click.Group:
    """The group of all commands."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    top = _LazyGroup(
        "duxnet",
        help="Which machines, right now, can do this work, and can they be trusted?",
        epilog=f"Run duxnet COMMAND --help for its options. Exit codes: {codes}.",
    )
    return click.version_option(__version__, prog_name="duxnet", message="%(prog)s %(version)s")(top)
