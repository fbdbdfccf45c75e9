"""`duxnet help` and `duxnet version`: the words that other programs have taught people to type."""

from __future__ import annotations

import click

__all__ = ["help_command", "version"]


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
def help_command(words: tuple[str, ...]) -> int:
    """Show the help of a command, as `duxnet COMMAND --help` does.

    Without COMMAND it lists all commands. `duxnet help nodes list` shows the help of a command of a group.
    """
    from duxnet.cli import dispatch

    return dispatch([*words, "--help"])


@click.command("version")
def version() -> int:
    """Show the version, as `duxnet --version` does."""
    from duxnet.cli import dispatch

    return dispatch(["--version"])
