"""The whole examination: which checks are made of what is installed here, in the order in which a person would look."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding
from duxnet.process.errors import CommandError
from duxnet.process.settings import Settings
from duxnet.service import systemctl
from duxnet.service.units import AGENT, COORDINATOR, Unit

if TYPE_CHECKING:
    from agent.status_file import FoundStatus

__all__ = ["Patient", "examine", "find_patient", "service_environment"]

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


@dataclass(frozen=True)
class Patient:
    """What is examined: the properties of the installed units, or an agent that was started by hand."""

    agent: Optional[Mapping[str, str]] = None
    coordinator: Optional[Mapping[str, str]] = None
    config: Optional[str] = None
    state_dir: Optional[str] = None

    @property
    def is_service(self) -> bool:
        """Whether an installed unit is examined."""
        return self.agent is not None or self.coordinator is not None

    @property
    def has_agent(self) -> bool:
        """False on a machine with only a coordinator."""
        return self.agent is not None or self.coordinator is None


def find_patient(config: Optional[str], state_dir: Optional[str]) -> Patient:
    """The installed services, unless a configuration or a state directory names an agent."""
    if config is not None or state_dir is not None or not systemctl.is_running():
        return Patient(config=config, state_dir=state_dir)
    return Patient(_installed(AGENT), _installed(COORDINATOR))


def service_environment(patient: Patient) -> dict[str, str]:
    """The environment of the service, without anything from the shell in which the doctor was started."""
    unit, found = (AGENT, patient.agent) if patient.agent is not None else (COORDINATOR, patient.coordinator)
    assert found is not None
    environ = {
        "PATH": SERVICE_PATH,
        "HOME": "/",
        "STATE_DIRECTORY": f"/var/lib/{unit.directory}",
        "RUNTIME_DIRECTORY": f"/run/{unit.directory}",
    }
    for word in shlex.split(found.get("Environment", "")):
        name, _, value = word.partition("=")
        environ[name] = value
    return environ


def examine(patient: Patient, environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings. `environ` is the environment of the patient. Raises CommandError if systemd does not answer."""
    from duxnet.doctor.coordinator_checks import check_coordinator_configuration

    if patient.has_agent:
        yield from _agent(patient, environ)
    yield from _own_clock()
    if patient.has_agent:
        yield from _own_power()
    if patient.coordinator is not None:
        yield from _service(COORDINATOR, patient.coordinator)
        yield from check_coordinator_configuration()


def _agent(patient: Patient, environ: Mapping[str, str]) -> Iterator[Finding]:
    from agent.settings import AgentSettings
    from agent.status_file import find_status
    from duxnet.doctor.agent_checks import check_configuration, check_identity, check_status

    if patient.agent is not None:
        yield from _service(AGENT, patient.agent)
    elif systemctl.is_running():
        hint = "with `sudo duxnet service install`, systemd starts it at boot and after every failure"
        yield Finding(
            "service", NOTE, f"{AGENT.service} is not installed; this checks an agent that was started by hand", hint
        )
    settings, findings = check_configuration(patient.config, patient.is_service)
    yield from findings
    if settings is not None:
        own = settings.section("agent", AgentSettings)
        state_dir = Path(patient.state_dir) if patient.state_dir else own.state_path(environ)
        yield check_identity(state_dir)
        found = find_status(state_dir, environ)
        yield from check_status(found)
        yield from _registry(patient, settings, found)
        work_dir = Path(own.work_dir) if own.work_dir else state_dir
        yield from _seen(patient, work_dir)


def _installed(unit: Unit) -> Optional[Mapping[str, str]]:
    from duxnet.doctor.unit_checks import PROPERTIES

    found = systemctl.properties(unit.service, PROPERTIES)
    return found if found.get("LoadState") == "loaded" else None


def _service(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    from duxnet.doctor.unit_checks import check_credentials, check_state, check_text, check_watchdog

    yield from check_state(unit, found)
    yield from check_watchdog(unit, found)
    yield from check_text(unit, found)
    if os.geteuid() == 0:
        yield from check_credentials(unit)


def _registry(patient: Patient, settings: Settings, found: Optional[FoundStatus]) -> Iterator[Finding]:
    """Check the registry that the running agent reports to (its command line may name it), else the configured one."""
    from agent.open_registry import is_address
    from agent.settings import RegistrySettings
    from duxnet.doctor.reach import AllowList, check_address

    section = settings.section("registry", RegistrySettings)
    in_use = found.status.registry if found is not None and found.is_running else ""
    target = in_use if is_address(in_use) else section.target
    if not target:
        yield Finding("registry", OK, "the agent keeps a registry of its own in its state directory")
        return
    unit = patient.agent or {}
    allow_list = AllowList.from_properties(unit.get("IPAddressDeny", ""), unit.get("IPAddressAllow", ""))
    ca_file, proxy = section.ca_file or None, section.proxy.get_secret_value()
    for address in target.replace(",", " ").split():
        if address.startswith(("http://", "https://")):
            yield from check_address(address, ca_file, allow_list, proxy)


def _seen(patient: Patient, work_dir: Path) -> Iterator[Finding]:
    """Compare what the service can see with what root sees."""
    from duxnet.doctor.comparison import CHECK, compare
    from duxnet.doctor.sandbox import SandboxError, probe_as_root, probe_in_sandbox, readable_folder
    from duxnet.service.placement import current_placement

    if patient.agent is None:
        return
    if os.geteuid() != 0:
        yield Finding(CHECK, NOTE, "the comparison with what root sees needs root", "run as root: sudo duxnet doctor")
        return
    command = current_placement().command
    folder = readable_folder(work_dir)
    try:
        findings = compare(probe_as_root(command, folder), probe_in_sandbox(AGENT, command, folder))
    except (SandboxError, CommandError) as error:
        remedy = (
            f"`systemctl cat {AGENT.service}` shows its restrictions; check that `duxnet probe` works outside of it"
        )
        yield Finding(CHECK, PROBLEM, f"the probe could not be run as the service: {error}", remedy)
        return
    yield from findings


def _own_clock() -> Iterator[Finding]:
    """Check that a time service sets the clock of this machine. A container has the clock of its host."""
    if not systemctl.is_running() or Path("/run/systemd/container").exists():
        return
    try:
        answer = systemctl.timedatectl("NTPSynchronized")
    except CommandError:
        return
    if answer == "yes":
        yield Finding("clock set", OK, "a time service sets this machine's clock")
    else:
        remedy = "sudo timedatectl set-ntp true (needs the package systemd-timesyncd or chrony)"
        yield Finding("clock set", NOTE, "no time service sets this machine's clock", remedy)


def _own_power() -> Iterator[Finding]:
    """Note that a machine runs on its battery. A machine without a battery has no finding."""
    from agent.probe.live_source import LiveSource
    from agent.probe.source import SourceError

    source = LiveSource()
    if not source.list_dir("/sys/class/power_supply"):
        return
    try:
        battery = source.ask("battery")
    except (OSError, SourceError):
        return
    if isinstance(battery, dict) and battery.get("plugged") is False:
        words = (
            f"this machine runs on its battery ({battery.get('percent')} % full) and leaves when the battery is empty"
        )
        yield Finding("power", NOTE, words, "plug it in, or stop the agent while it is unplugged")
