"""What the machine is asked by a call instead of a file; each answer is a plain JSON value, so that it can be recorded.

psutil serves what differs between systems and what the agent samples. A single probe on Linux does without it:
its import takes longer than all the rest. Not here: any judgement of an answer.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable

__all__ = ["QUESTIONS"]

_LINUX = sys.platform.startswith("linux")


def _affinity(_argument: str) -> Any:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return None


def _statvfs(path: str) -> Any:
    if not hasattr(os, "statvfs"):  # Windows
        import psutil

        usage = psutil.disk_usage(path)
        return [usage.total, usage.free, usage.free, 0, 0]
    answer = os.statvfs(path)
    block = answer.f_frsize or answer.f_bsize  # some FUSE servers leave the first at 0
    return [
        answer.f_blocks * block,
        answer.f_bfree * block,
        answer.f_bavail * block,
        answer.f_files,
        answer.f_favail,
    ]


def _nearest_existing(path: str) -> Any:
    resolved = os.path.realpath(path)
    while not os.path.exists(resolved):  # noqa: PTH110 - pathlib costs 3 ms at start
        parent = os.path.dirname(resolved)  # noqa: PTH120 - the same
        if parent == resolved:
            break
        resolved = parent
    return resolved


def _uname(_argument: str) -> Any:
    if hasattr(os, "uname"):
        answer = os.uname()
        return [answer.sysname, answer.nodename, answer.release, answer.version, answer.machine]
    import platform

    return list(platform.uname())[:5]


def _load_average(_argument: str) -> Any:
    if _LINUX:
        return os.getloadavg()[0]
    import psutil

    return psutil.getloadavg()[0]  # emulated on Windows: zero for the first seconds


def _cpu_times(_argument: str) -> Any:
    import psutil

    return psutil.cpu_times()._asdict()


def _virtual_memory(_argument: str) -> Any:
    import psutil

    return psutil.virtual_memory()._asdict()


def _cpu_count(_argument: str) -> Any:
    return os.cpu_count()


def _interfaces(_argument: str) -> Any:
    if not _LINUX:
        return _interfaces_by_psutil()
    from _socket import inet_ntop  # `socket` itself costs 3 ms more at start

    from agent.probe.libc import interface_addresses

    interfaces: dict[str, dict[str, Any]] = {}
    for name, up, family, raw in interface_addresses():
        interface = interfaces.setdefault(name, {"name": name, "up": up, "addresses": []})
        if raw:
            interface["addresses"].append(inet_ntop(family, raw))
    return [interfaces[name] for name in sorted(interfaces)]


def _interfaces_by_psutil() -> Any:
    import socket

    import psutil

    families = {socket.AF_INET, socket.AF_INET6}
    addresses = psutil.net_if_addrs()
    return [
        {
            "name": name,
            "up": bool(stats.isup),
            "addresses": [
                entry.address.partition("%")[0] for entry in addresses.get(name, ()) if entry.family in families
            ],
        }
        for name, stats in sorted(psutil.net_if_stats().items())
    ]


def _route(target: str) -> Any:
    """The local address from which `target`, an address or a name, would be reached; IPv4 where both can.

    Connecting a UDP socket sends nothing. A name is resolved, which can take as long as its servers like.
    """
    import _socket  # `socket` itself costs 3 ms more at start, for enumerations and selectors that are not used here

    for family in (_socket.AF_INET6,) if ":" in target else (_socket.AF_INET, _socket.AF_INET6):
        try:
            probe = _socket.socket(family, _socket.SOCK_DGRAM)
        except OSError:  # no such family here
            continue
        try:
            probe.connect((target, 9))
            return probe.getsockname()[0]
        except (OSError, UnicodeError):  # no route, no such name
            continue
        finally:
            probe.close()
    return None


def _clock(_argument: str) -> Any:
    """What the kernel's clock discipline knows, by adjtimex(2) with nothing to set; None without such a call."""
    if not _LINUX:
        return None
    from agent.probe.libc import clock_state

    return clock_state()


def _access(path: str) -> Any:
    if os.access(path, os.R_OK | os.W_OK):
        return "yes"
    return "denied" if os.access(path, os.F_OK) else "missing"


def _nvml(bus_ids: str) -> Any:
    """NVIDIA's library, asked by a process of its own; bus ids with commas, none for all that it lists."""
    from agent.probe.gpu.nvml_call import ask_nvml

    return ask_nvml([bus_id for bus_id in bus_ids.split(",") if bus_id])


def _pci_name(vendor_and_device: str) -> Any:
    from agent.probe.gpu.pci_ids import look_up

    return look_up(vendor_and_device)


QUESTIONS: dict[str, Callable[[str], Any]] = {
    "access": _access,
    "affinity": _affinity,
    "clock": _clock,
    "cpu_count": _cpu_count,
    "cpu_times": _cpu_times,
    "interfaces": _interfaces,
    "load_average": _load_average,
    "nearest_existing": _nearest_existing,
    "nvml": _nvml,
    "pci_name": _pci_name,
    "route": _route,
    "statvfs": _statvfs,
    "uname": _uname,
    "virtual_memory": _virtual_memory,
}
