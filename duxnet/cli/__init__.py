"""The `duxnet` command. Each subcommand has its own module, which is imported only when the subcommand is used.

`main` finds the subcommand in a table and imports its module alone, so that a start costs only what it uses (click
included, which `duxnet probe` does without). Errors that we raise on purpose become a line on stderr and an exit code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "dispatch", "loaded", "main"]

# command: (module, attribute, one line of help). The attribute is a click command, or a function that takes the
# arguments after the command's name and returns the exit code. For a function, `command()` of the same module makes
# the click command that help and completion need.
COMMANDS = {
    "probe": ("duxnet.cli.probe", "main", "Measure this machine once and print what it offers."),
    "agent": ("duxnet.cli.agent", "agent", "Register this machine and report its health."),
    "status": ("duxnet.cli.status", "status", "Show what the agent on this machine is doing."),
    "nodes": ("duxnet.cli.nodes", "nodes", "List, show and change the nodes of a registry."),
    "registry": ("duxnet.cli.registry", "registry", "Check, back up, restore, move or seal a registry file."),
    "config": ("duxnet.cli.config", "config", "Check the configuration or show where values come from."),
    "service": ("duxnet.cli.service", "service", "Run the agent or the coordinator as a systemd service."),
    "doctor": ("duxnet.cli.doctor", "doctor", "Find problems of the agent here and how to fix them."),
    "coordinator": ("duxnet.cli.coordinator", "coordinator", "Run the registry that many agents report to."),
    "token": ("duxnet.cli.token", "token", "Create, list and revoke a coordinator's tokens."),
    "key": ("duxnet.cli.key", "key", "Show or replace the key of this machine's node."),
    "wallet": ("duxnet.cli.wallet", "wallet", "Prove which wallet a node belongs to."),
    "completion": ("duxnet.cli.completion", "completion", "Print the completion script for a shell."),
    "manual": ("duxnet.cli.manual", "manual", "Print the manual page."),
    "help": ("duxnet.cli.about", "help_command", "Show the help of a command."),
    "version": ("duxnet.cli.about", "version", "Show the version."),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command that `arguments` (default: those of the process) names, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    from duxnet.cli.run import ended

    return ended(lambda: dispatch(given))


def dispatch(given: list[str]) -> int:
    """As `main`, within a command: errors are raised."""
    from os import environ

    if given and given[0] in COMMANDS and "_DUXNET_COMPLETE" not in environ:
        return _run_command(given[0], given[1:])
    if given == ["--version"]:
        from duxnet.process.terminal import say
        from registry_core.version import __version__

        say(f"duxnet {__version__}")
        return 0
    from duxnet.cli.group import group
    from duxnet.cli.run import run_click

    return run_click(group(), given, "duxnet")


def _run_command(name: str, arguments: list[str]) -> int:
    command = loaded(name)
    if not hasattr(command, "main"):
        return int(command(arguments))
    from duxnet.cli.run import run_click

    return run_click(command, arguments, f"duxnet {name}")


def loaded(name: str) -> Any:
    """The click command or the function that the table names for `name`."""
    from importlib import import_module

    module, attribute, _help = COMMANDS[name]
    return getattr(import_module(module), attribute)
