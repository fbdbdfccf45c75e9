"""Whether this process can see /proc and /sys: without them a property is unknown, not absent.

Sandboxes, simple chroots and hardened containers may lack them. Only Linux has them.
"""

from __future__ import annotations

from agent.probe.source import Source, SourceError

__all__ = ["NO_PROC", "NO_SYS", "is_proc_hidden", "is_sys_hidden"]

NO_PROC = "/proc is not visible here"
NO_SYS = "/sys is not visible here"

_PROC = ("/proc/self/mountinfo", "/proc/meminfo", "/proc/cpuinfo", "/proc/self/cgroup")


def is_proc_hidden(source: Source) -> bool:
    """True on a Linux without any of the files that every kernel has in /proc."""
    return all(source.read_text(path) is None for path in _PROC) and _is_linux(source)


def is_sys_hidden(source: Source) -> bool:
    """True on a Linux without buses and system devices in /sys. A bus without devices does not count as hidden."""
    folders = ("/sys/bus", "/sys/devices/system/cpu")
    return not any(source.list_dir(folder) for folder in folders) and _is_linux(source)


def _is_linux(source: Source) -> bool:
    try:
        return source.uname()[0] == "Linux"
    except (OSError, SourceError):  # blocked by a system-call filter, which only Linux has
        return True
