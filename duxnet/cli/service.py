"""`duxnet service`: installs, removes and shows the agent or the coordinator as a systemd service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from duxnet.service.units import Unit

__all__ = ["service"]

_coordinator = click.option("--coordinator", is_flag=True, help="Act on the coordinator instead of the agent.")
_dry_run = click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing.")
_root = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    help="Act on the system image in this folder; start nothing.",
)


@click.group("service", cls=SuggestingGroup)
def service() -> None:
    """Run the agent or the coordinator as a systemd service.

    The service starts at boot and after every failure. It runs as a user of its own and sees only as much of the
    machine as it needs.
    """


@service.command("install")
@_coordinator
@_dry_run
@_root
@click.option(
    "--gpu/--no-gpu",
    default=None,
    help="Give the agent access to GPU devices, or not. Default: if the machine has a GPU.",
)
@click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="ADDRESS",
    help="Let the service reach only loopback and this address or network (repeatable); `any` lifts the limit.",
)
@click.option("--no-start", is_flag=True, help="Enable the service for the next boot, but do not start it now.")
def install_command(
    coordinator: bool, dry_run: bool, root: Path, gpu: Optional[bool], allowed: tuple[str, ...], no_start: bool
) -> int:
    """Install and start the service.

    This writes the unit, enables and starts it, and waits until it is active. A second call changes nothing, or
    restarts the service after an upgrade of the package. It needs root.
    """
    from duxnet.service.install import Choices, install
    from duxnet.service.placement import check_placement, current_placement

    unit = _unit(coordinator)
    choices = Choices(root, dry_run, not no_start, gpu, allowed)
    placement = current_placement()
    check_placement(placement, unit)
    _check_machine(choices.live)
    install(unit, placement.command, choices, say)
    return 0


@service.command("uninstall")
@_coordinator
@_dry_run
@_root
@click.option("--purge", is_flag=True, help="Also remove the state: identity, registry and tokens.")
def uninstall_command(coordinator: bool, dry_run: bool, root: Path, purge: bool) -> int:
    """Stop the service and remove its unit.

    The state is kept without --purge. It needs root.
    """
    from duxnet.service.install import Choices, uninstall

    choices = Choices(root, dry_run)
    _check_machine(choices.live)
    uninstall(_unit(coordinator), choices, purge, say)
    return 0


@service.command("status")
@_coordinator
def status_command(coordinator: bool) -> int:
    """Show the state of the service.

    The exit code is 0 if the service is active and 1 if it is not.
    """
    from duxnet.service.report import describe, is_active

    unit = _unit(coordinator)
    _check_machine(live=False)
    for line in describe(unit):
        say(line)
    return 0 if is_active(unit) else 1


def _unit(coordinator: bool) -> Unit:
    from duxnet.service.units import AGENT, COORDINATOR

    return COORDINATOR if coordinator else AGENT


def _check_machine(live: bool) -> None:
    import os

    from duxnet.process.errors import CommandError

    if sys.platform != "linux":
        raise CommandError(
            "this system has no systemd", "Start `duxnet agent` with the service manager of this system."
        )
    if live and os.geteuid() != 0:
        command = " ".join(["sudo", str(Path(sys.argv[0]).resolve()), *sys.argv[1:]])
        raise CommandError("this needs root", f"Run:\n  {command}")
