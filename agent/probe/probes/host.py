"""The identity of the machine: names, kernel, boot, container or virtual machine, machine hint, clock."""

from __future__ import annotations

from typing import Any, Optional

from agent.probe.facilities import facilities
from agent.probe.options import ProbeOptions
from agent.probe.parsers.release import pretty_name
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source, SourceError
from agent.probe.virtualization import can_show_hypervisor, container_name, virtual_machine_name
from agent.probe.visibility import NO_PROC, NO_SYS, is_proc_hidden, is_sys_hidden

__all__ = ["HostProbe"]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"

# The hint is HMAC-SHA256(machine-id, this), so that the machine-id itself never leaves the machine, as recommended by
# sd_id128_get_machine_app_specific(3) of systemd. Changing this text would make every machine look new.
_APPLICATION = b"duxnet.probe/machine-hint/1"


class HostProbe:
    """Kernel and boot id change only at a reboot, which restarts the agent too; the clock drifts in between."""

    name = "host"
    cadence_seconds = 900.0
    deadline_seconds = 5.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        failures = []
        hostname, kernel = _names(source)
        if not hostname:
            failures.append(Failure(self.name, "neither uname nor /proc gives it", "hostname"))
        if is_proc_hidden(source):
            failures.append(Failure(self.name, f"{NO_PROC}: cannot determine whether this is a container", "container"))
        machine = _virtual_machine(source)
        if machine.note == NO_SYS:
            message = f"{NO_SYS}: cannot determine whether this is a virtual machine"
            failures.append(Failure(self.name, message, "virtual_machine"))
        unknown = {failure.reading for failure in failures}
        release = source.read_text("/etc/os-release")
        if release is None:
            release = source.read_text("/usr/lib/os-release")
        hint = _machine_hint(source)
        uptime = (source.read_text("/proc/uptime") or "").split()
        return [
            Reading("hostname", hostname or None, "", "uname"),
            Reading("os_version", pretty_name(release)[:128].strip() or kernel or None, "", "/etc/os-release"),
            Reading("kernel", kernel[:128] or None, "", "uname"),
            Reading("boot_id", source.read_line(_BOOT_ID) or None, "", _BOOT_ID),
            Reading("machine_hint", hint, "", "HMAC-SHA256 of /etc/machine-id", note="a hint: clones share it"),
            Reading(
                "container",
                None if "container" in unknown else container_name(source) or None,
                "",
                "/proc/self/ns, /proc/1, /run",
                note=NO_PROC if "container" in unknown else "",
            ),
            machine,
            Reading("uptime_seconds", _number(uptime[0]) if uptime else None, "s", "/proc/uptime"),
            _clock(source),
            *facilities(source),
        ], failures


def _names(source: Source) -> tuple[str, str]:
    """The host name, and the system with its release; from /proc if a filter blocks uname(2)."""
    try:
        system, hostname, release, _, _ = source.uname()
    except (OSError, SourceError):
        names = ("ostype", "hostname", "osrelease")
        system, hostname, release = (source.read_line(f"/proc/sys/kernel/{name}") for name in names)
    return hostname, f"{system} {release}".strip()


def _virtual_machine(source: Source) -> Reading:
    name = virtual_machine_name(source)
    read_from = "/sys/class/dmi/id, clock sources, /proc/cpuinfo"
    note = ""
    if not name and not can_show_hypervisor(source):
        note = NO_SYS if is_sys_hidden(source) else "nothing here shows whether this is a virtual machine"
    return Reading("virtual_machine", name or None, "", read_from, note=note)


def _machine_hint(source: Source) -> Optional[str]:
    machine_id = source.read_line("/etc/machine-id") or source.read_line("/var/lib/dbus/machine-id")
    if len(machine_id) != 32 or machine_id == "0" * 32:
        return None
    try:
        key = bytes.fromhex(machine_id)
    except ValueError:
        return None
    return _hmac_sha256(key, _APPLICATION).hex()[:32]


def _hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104 for a key of at most one block, without `hmac` and `hashlib`, which load OpenSSL (4 ms)."""
    sha256 = _sha256()
    block = key.ljust(64, b"\x00")
    inner = sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    digest: bytes = sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()
    return digest


def _sha256() -> Any:
    """CPython's built-in SHA-256 (`random` uses its SHA-512 likewise): `_sha2` since 3.12, `_sha256` before."""
    for module in ("_sha2", "_sha256"):
        try:
            return __import__(module).sha256
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


def _number(text: str) -> Optional[float]:
    try:
        return round(float(text), 1)
    except ValueError:
        return None


def _clock(source: Source) -> Reading:
    """The offset that the kernel's clock discipline still corrects; null if the clock is not synchronised."""
    try:
        answer: Any = source.ask("clock")
    except (OSError, SourceError):
        answer = None
    known = isinstance(answer, dict) and answer.get("synchronised") is True
    offset = answer.get("offset_seconds") if known else None
    note = "" if known else "this clock is not synchronised, or its state cannot be read"
    return Reading("clock_offset_seconds", offset, "s", "adjtimex", note=note)
