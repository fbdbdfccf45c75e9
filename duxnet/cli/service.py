"""`duxnet service`: put the agent or the coordinator under systemd, take it away, say how it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from duxnet.process.terminal import say

if TYPE_CHECKING:
    from duxnet.service.units import Unit

__all__ = ["service"]

_coordinator = click.option("--coordinator", is_flag=True, help="The coordinator instead of the agent.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, change nothing.")
_root = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    help="Work on the system image in this folder; nothing is started.",
)


@click.group()
def service() -> None:
    """Run the agent or the coordinator as a systemd service.

    The service starts at boot, runs as a user of its own, sees as little of the machine as it needs, and is
    started again whatever happens to it.
    """


@service.command("install")
@_coordinator
@_dry_run
@_root
@click.option("--gpu/--no-gpu", default=None, help="With or without access to GPU devices. Default: as the machine is.")
@click.option(
    "--allow", "allowed", multiple=True, metavar="ADDRESS", help="Reach only loopback and this; `any`: all. Repeatable."
)
@click.option("--no-start", is_flag=True, help="Enable it for the next boot only.")
def install_command(
    coordinator: bool, dry_run: bool, root: Path, gpu: Optional[bool], allowed: tuple[str, ...], no_start: bool
) -> int:
    """Write the unit, enable and start it, and wait until it is active.

    Doing it again changes nothing, or takes up an upgrade of the package. Needs root.
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
@click.option("--purge", is_flag=True, help="Remove its state too: identity, registry, tokens.")
def uninstall_command(coordinator: bool, dry_run: bool, root: Path, purge: bool) -> int:
    """Stop the service and remove its unit. Keeps its state unless told. Needs root."""
    from duxnet.service.install import Choices, uninstall

    choices = Choices(root, dry_run)
    _check_machine(choices.live)
    uninstall(_unit(coordinator), choices, purge, say)
    return 0


@service.command("status")
@_coordinator
def status_command(coordinator: bool) -> int:
    """Say how the service is, in one screen. Exit code 0 when it is active, 1 otherwise."""
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
        raise CommandError("there is no systemd on this system", "Run `duxnet agent` by what starts services here.")
    if live and os.geteuid() != 0:
        command = " ".join(["sudo", str(Path(sys.argv[0]).resolve()), *sys.argv[1:]])
        raise CommandError("this needs root", f"Try:\n  {command}")
