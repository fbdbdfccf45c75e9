"""Properties of a machine other than its sizes: virtual machines, containers, mains power, temperature."""

from __future__ import annotations

from typing import Any

from agent.probe.parsers.mounts import mounts
from agent.probe.reading import Reading
from agent.probe.source import Source, SourceError

__all__ = ["facilities"]

_KVM = "/dev/kvm"
_RUNTIMES = ("docker", "podman", "containerd", "nerdctl", "crio", "apptainer", "singularity", "incus", "lxc")
_PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin")


def facilities(source: Source) -> list[Reading]:
    """One reading each; null if the property is unknown or the machine lacks it."""
    runtimes = [name for name in _RUNTIMES if any(_access(source, f"{at}/{name}") for at in _PROGRAM_FOLDERS)]
    battery = _answer(source, "battery") if source.list_dir("/sys/class/power_supply") else None
    state = battery if isinstance(battery, dict) else {}
    temperature = _answer(source, "temperature") if source.list_dir("/sys/class/hwmon") else None
    warmth = float(temperature) if isinstance(temperature, (int, float)) else None
    return [
        _kvm(source),
        Reading("container_runtimes", runtimes, "", ", ".join(_PROGRAM_FOLDERS)),
        Reading("on_mains", state.get("plugged"), "", "psutil.sensors_battery"),
        Reading("battery_percent", state.get("percent"), "%", "psutil.sensors_battery"),
        Reading("temperature_celsius", warmth, "°C", "psutil.sensors_temperatures"),
    ]


def _kvm(source: Source) -> Reading:
    answer = _access(source, _KVM)
    if answer == "yes":
        return Reading("kvm", True, "", _KVM)
    if answer == "denied":
        return Reading("kvm", False, "", _KVM, "this user may not open it; the group kvm usually may")
    whole = any(mount.mount_point == "/dev" and mount.fstype == "devtmpfs" for mount in _mounts(source))
    if whole:
        return Reading("kvm", False, "", _KVM)
    note = "/dev here shows only some of the machine's devices (a container, or PrivateDevices= of the unit)"
    return Reading("kvm", None, "", _KVM, note=note)


def _mounts(source: Source) -> list[Any]:
    return list(mounts(source.read_text("/proc/self/mountinfo")))


def _access(source: Source, path: str) -> str:
    """`yes` or `denied`; empty if the file is missing."""
    answer = _answer(source, "access", path)
    return answer if answer in ("yes", "denied") else ""


def _answer(source: Source, question: str, argument: str = "") -> Any:
    try:
        return source.ask(question, argument)
    except (OSError, SourceError):
        return None
