"""Converts recordings of version 1, made before psutil was the main source: their files answer today's calls.

All readings stay the same. `recording.py` has the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.probe.parsers.meminfo import meminfo

__all__ = ["answers_of_files", "renamed_call"]

_TICKS_A_SECOND = 100.0  # of /proc/stat, on all architectures
_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")


def renamed_call(key: str) -> str:
    """`statvfs /mnt` is `disk_usage /mnt` today."""
    question, space, argument = key.partition(" ")
    return f"disk_usage{space}{argument}" if question == "statvfs" else key


def answers_of_files(files: Mapping[str, str], answers: Mapping[str, Any]) -> dict[str, Any]:
    """`answers`, completed with those that version 1 lacks; recorded answers are never replaced."""
    found: dict[str, Any] = {"cpu_times": _cpu_times(files), "swap_memory": _swap_memory(files)}
    for key, answer in answers.items():
        found[renamed_call(key)] = _disk_usage(answer) if key.startswith("statvfs ") else answer
    found["interfaces"] = _with_mtu(files, answers.get("interfaces"))
    return {key: answer for key, answer in found.items() if answer is not None}


def _cpu_times(files: Mapping[str, str]) -> Any:
    words = files.get("/proc/stat", "").partition("\n")[0].split()
    ticks = [int(word) for word in words[1:] if word.isascii() and word.isdigit() and len(word) < 19]
    if words[:1] != ["cpu"] or len(ticks) != len(words) - 1:
        return None
    return {state: count / _TICKS_A_SECOND for state, count in zip(_STATES, ticks)}


def _swap_memory(files: Mapping[str, str]) -> Any:
    values = meminfo(files.get("/proc/meminfo"))
    return {"total": values["SwapTotal"]} if "SwapTotal" in values else None


def _disk_usage(answer: Any) -> Any:
    """Version 1 stored total, free and available bytes, inodes and available inodes; other values are unchanged."""
    if not isinstance(answer, list) or len(answer) != 5 or not all(isinstance(size, int) for size in answer):
        return answer
    total, free, available, inodes, inodes_available = answer
    sizes = {"total": total, "used": total - free, "free": available}
    return {**sizes, "inodes": inodes, "inodes_available": inodes_available}


def _with_mtu(files: Mapping[str, str], interfaces: Any) -> Any:
    if not isinstance(interfaces, list):
        return interfaces
    return [{"mtu": _mtu(files, item), **item} if isinstance(item, dict) else item for item in interfaces]


def _mtu(files: Mapping[str, str], interface: Mapping[str, Any]) -> Any:
    text = files.get(f"/sys/class/net/{interface.get('name')}/mtu", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
