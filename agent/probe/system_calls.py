"""Queries of the machine by calls instead of files. Each answer is a plain JSON value, so that it can be recorded.

psutil is the main source; docs/probe.md lists what comes from elsewhere, and why. The first query of the live machine
imports this module, so that a replay does not load psutil. Answers are not judged here.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from typing import Any, Callable

import psutil

from agent.probe.hanging_mounts import ask_in_child
from agent.probe.mount_child import directory
from agent.probe.source import SourceError

__all__ = ["QUESTIONS", "answer"]


def answer(question: str, argument: str) -> Any:
    """The answer to one of `QUESTIONS`. Raises SourceError, OSError, and MissedDeadline for a mount that hangs."""
    call = QUESTIONS.get(question)
    if call is None:
        raise SourceError(f"{question} is not a query that this version supports")
    try:
        return call(argument)
    except (psutil.Error, LookupError, RuntimeError, TypeError, ValueError) as error:
        # psutil raises these if a file of the kernel is empty or has an unknown format
        raise SourceError(f"{question}: {type(error).__name__}: {error}") from error


def _affinity(_argument: str) -> Any:
    """None on macOS, which has no affinity."""
    if not hasattr(psutil.Process, "cpu_affinity"):
        return None
    try:
        return sorted(psutil.Process().cpu_affinity())
    except psutil.NoSuchProcess:  # psutil looks up its own process in /proc, which a chroot may lack
        return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None


def _disk_usage(path: str) -> Any:
    """Bytes by psutil's names, and inodes, which psutil lacks (0 if the file system has no limit)."""
    answer = ask_in_child("disk_usage", path)
    if answer is not None:
        return answer
    usage = psutil.disk_usage(path)
    inodes, inodes_available = 0, 0
    if hasattr(os, "statvfs"):
        sizes = os.statvfs(path)
        inodes, inodes_available = sizes.f_files, sizes.f_favail
    return {
        "total": usage.total,
        "used": usage.used,
        "free": usage.free,
        "inodes": inodes,
        "inodes_available": inodes_available,
    }


def _nearest_existing(path: str) -> Any:
    answer = ask_in_child("nearest_existing", path)
    return directory(path) if answer is None else answer


def _uname(_argument: str) -> Any:
    if hasattr(os, "uname"):
        answer = os.uname()
        return [answer.sysname, answer.nodename, answer.release, answer.version, answer.machine]
    import platform

    return list(platform.uname())[:5]


def _load_average(_argument: str) -> Any:
    return psutil.getloadavg()[0]  # emulated on Windows: zero for the first seconds


def _cpu_times(_argument: str) -> Any:
    return psutil.cpu_times()._asdict()


def _virtual_memory(_argument: str) -> Any:
    return psutil.virtual_memory()._asdict()


def _physical_memory(_argument: str) -> Any:
    page = os.sysconf("SC_PAGE_SIZE")
    return {"total": os.sysconf("SC_PHYS_PAGES") * page, "available": os.sysconf("SC_AVPHYS_PAGES") * page}


def _swap_memory(_argument: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without /proc/vmstat psutil warns that pages swapped in and out are unknown
        return psutil.swap_memory()._asdict()


def _battery(_argument: str) -> Any:
    """{"percent", "plugged"}, or None without a battery."""
    read = getattr(psutil, "sensors_battery", None)
    state = read() if read is not None else None
    return None if state is None else {"percent": round(state.percent, 1), "plugged": state.power_plugged}


def _temperature(_argument: str) -> Any:
    """Degrees Celsius of the hottest sensor, None without any."""
    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read is not None else {}
    found = [entry.current for entries in sensors.values() for entry in entries if entry.current is not None]
    return max(found) if found else None


def _cpu_count(_argument: str) -> Any:
    return psutil.cpu_count()


def _interfaces(_argument: str) -> Any:
    states = psutil.net_if_stats()
    addresses: dict[str, list[str]] = {name: [] for name in states}
    for label, entries in psutil.net_if_addrs().items():
        name = label if label in states else label.partition(":")[0]  # eth0:1 is the label of another address of eth0
        families = (socket.AF_INET, socket.AF_INET6)
        found = [entry.address.partition("%")[0] for entry in entries if entry.family in families]
        addresses.setdefault(name, []).extend(found)
    return [
        {"name": name, "up": bool(state.isup), "mtu": state.mtu, "addresses": addresses[name]}
        for name, state in sorted(states.items())
    ]


def _route(target: str) -> Any:
    """The local address from which `target`, an address or a name, would be reached; IPv4 if both work.

    Connecting a UDP socket sends nothing. Resolving a name can take as long as the name servers do.
    """
    for family in (socket.AF_INET6,) if ":" in target else (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                return probe.getsockname()[0]
        except (OSError, UnicodeError):  # address family not supported, no route, or unknown name
            continue
    return None


def _clock(_argument: str) -> Any:
    """The state of the kernel's clock discipline, by adjtimex(2); None if there is no such call."""
    if sys.platform != "linux":
        return None
    from agent.probe.clock import clock_state

    return clock_state()


def _access(path: str) -> Any:
    if os.access(path, os.R_OK | os.W_OK):
        return "yes"
    return "denied" if os.access(path, os.F_OK) else "missing"


def _nvml(bus_ids: str) -> Any:
    """The answer of NVIDIA's library, queried in a separate process; bus ids separated by commas, empty for all."""
    from agent.probe.gpu.nvml_call import ask_nvml

    return ask_nvml([bus_id for bus_id in bus_ids.split(",") if bus_id])


def _pci_name(vendor_and_device: str) -> Any:
    from agent.probe.gpu.pci_ids import look_up

    return look_up(vendor_and_device)


QUESTIONS: dict[str, Callable[[str], Any]] = {
    "access": _access,
    "affinity": _affinity,
    "battery": _battery,
    "clock": _clock,
    "cpu_count": _cpu_count,
    "cpu_times": _cpu_times,
    "disk_usage": _disk_usage,
    "interfaces": _interfaces,
    "load_average": _load_average,
    "nearest_existing": _nearest_existing,
    "nvml": _nvml,
    "pci_name": _pci_name,
    "physical_memory": _physical_memory,
    "route": _route,
    "swap_memory": _swap_memory,
    "temperature": _temperature,
    "uname": _uname,
    "virtual_memory": _virtual_memory,
}
