"""Whether this process sees the kernel's own windows: without /proc or /sys nothing there is «none», but «not known».

Sandboxes, hand-made chroots and hardened containers leave them out. Only Linux has them.
"""

from __future__ import annotations

from agent.probe.source import Source, SourceError

__all__ = ["NO_PROC", "NO_SYS", "is_proc_hidden", "is_sys_hidden"]

NO_PROC = "/proc is not visible here"
NO_SYS = "/sys is not visible here"

_PROC = ("/proc/self/mountinfo", "/proc/meminfo", "/proc/cpuinfo", "/proc/self/cgroup")


def is_proc_hidden(source: Source) -> bool:
    """True on a Linux that shows nothing of what every kernel has there."""
    return all(source.read_text(path) is None for path in _PROC) and _is_linux(source)


def is_sys_hidden(source: Source) -> bool:
    """True on a Linux that shows neither a bus nor the system's own devices. A bus without devices is another thing."""
    folders = ("/sys/bus", "/sys/devices/system/cpu")
    return not any(source.list_dir(folder) for folder in folders) and _is_linux(source)


def _is_linux(source: Source) -> bool:
    try:
        return source.uname()[0] == "Linux"
    except (OSError, SourceError):  # a filter of system calls, which only Linux has
        return True
