"""The command line as click sees it: help in sections, suggestions, completion. A command loads when it is used."""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from inspect import cleandoc
from typing import Any, Optional

import click

from duxnet.cli import COMMANDS, loaded
from registry_core.version import __version__

__all__ = ["EXIT_CODES", "SectionOption", "SectionedCommand", "SuggestingGroup", "group"]

EXIT_CODES = {"0": "done", "1": "failed", "2": "wrong usage", "3": "partly done", "78": "bad configuration"}


class SectionOption(click.Option):
    """An option that help lists under the heading `section`."""

    def __init__(self, *names: Any, section: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help has a section for each kind of its options, and the others under `Options`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, in sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class SuggestingGroup(click.Group):
    """A group that suggests the command that was probably meant, and lists each command by its whole first sentence."""

    command_class = SectionedCommand

    def add_command(self, cmd: click.Command, name: Optional[str] = None) -> None:
        """As click's; click would cut a long sentence off where it lists commands."""
        first_paragraph = " ".join(cleandoc(cmd.help or "").partition("\n\n")[0].split())
        cmd.short_help = cmd.short_help or re.split(r"(?<=\.) ", first_paragraph)[0]
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        """As click's, with a suggestion."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            known = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(self.list_commands(ctx))}"
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
    """The command `name` of the table; a function's click command comes from `command()` of its module."""
    found = loaded(name)
    if not isinstance(found, click.Command):
        found = import_module(COMMANDS[name][0]).command()
    assert isinstance(found, click.Command)
    found.short_help = COMMANDS[name][2]
    return found


def group() -> click.Group:
    """The group of all commands."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    top = _LazyGroup(
        "duxnet",
        help="Find the machines that can do a piece of work right now and that can be trusted with it.",
        epilog=f"Run `duxnet help COMMAND` for the options of a command. Exit codes: {codes}.",
    )
    return click.version_option(__version__, prog_name="duxnet", message="%(prog)s %(version)s")(top)
