"""The units, their packaged text, and that text for the place where the package is installed.

Here: names and text. Not here: writing files (`install`) and calling systemd (`systemctl`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from duxnet.process.errors import CommandError
from registry_core.errors import shown

__all__ = ["AGENT", "COORDINATOR", "GPU_DROP_IN", "NETWORK_DROP_IN", "Unit", "gpu_text", "network_text", "unit_text"]

PACKAGED_COMMAND = "/opt/duxnet/bin/duxnet"
GPU_DROP_IN = "gpu.conf"
NETWORK_DROP_IN = "network.conf"


@dataclass(frozen=True)
class Unit:
    """A service. `role` is also the subcommand of `duxnet` that it runs."""

    role: str

    @property
    def service(self) -> str:
        """The name of the unit file."""
        return f"duxnet-{self.role}.service"

    @property
    def directory(self) -> str:
        """The name of the unit's folders below /var/lib and /run."""
        return f"duxnet-{self.role}"

    @property
    def install_command(self) -> str:
        """The command that installs the unit, without the path of `duxnet`."""
        return "duxnet service install" + (" --coordinator" if self.role == "coordinator" else "")


AGENT = Unit("agent")
COORDINATOR = Unit("coordinator")


def unit_text(unit: Unit, command: Path) -> str:
    """The unit file, with `command` (an absolute path) instead of the packaged one."""
    return _packaged(unit.service).replace(f"ExecStart={PACKAGED_COMMAND} ", f"ExecStart={_quoted(command)} ")


def gpu_text(groups: Collection[str]) -> str:
    """The GPU drop-in with only the groups that exist: a missing group would make the unit fail."""
    lines = (_only_existing(line, groups) for line in _packaged(GPU_DROP_IN).splitlines())
    return "".join(f"{line}\n" for line in lines if line != "SupplementaryGroups=")


def _only_existing(line: str, groups: Collection[str]) -> str:
    key, _, value = line.partition("=")
    if key != "SupplementaryGroups":
        return line
    return f"{key}={' '.join(group for group in value.split() if group in groups)}"


def network_text(allowed: Sequence[str]) -> str:
    """The network drop-in that allows `allowed` (addresses or networks) besides loopback. Raises CommandError."""
    networks = []
    for given in allowed:
        try:
            networks.append(str(ipaddress.ip_network(given)))
        except ValueError as error:
            message = f"--allow: {shown(given)} is not accepted: {error}"
            raise CommandError(message, "Give an address or a network, such as 203.0.113.7 or 10.0.0.0/8.") from None
    return _packaged(NETWORK_DROP_IN) + "".join(f"IPAddressAllow={network}\n" for network in networks)


def _packaged(name: str) -> str:
    """A file of `systemd/`, which is beside this package in the wheel and two folders up in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    raise CommandError(f"the packaged unit {name} is missing", "Install the package again.")


def _quoted(command: Path) -> str:
    """A path quoted for systemd.service(5), where % starts a specifier, $ a variable, and a space ends the word."""
    text = str(command).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return text if text == PACKAGED_COMMAND or not set(text) & set(" \t'\"\\;") else f'"{text}"'
