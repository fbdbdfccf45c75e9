"""A report as text for a person: a table, or an explanation in sentences.

Host names, mount points and models come from the machine and end in a terminal: what is not printable is escaped.
"""

from __future__ import annotations

from typing import Any

from agent.probe.reading import Reading
from agent.probe.report import ProbeReport
from registry_core.errors import printable

__all__ = ["explained", "table"]

_LABELS = {
    "cpu_cores": "CPUs",
    "cpu_quota": "CPU time",
    "host_cpus": "CPUs of the host",
    "physical_cores": "physical cores",
    "cpu_sockets": "CPU sockets",
    "cpus_offline": "CPUs switched off",
    "performance_cpus": "performance CPUs",
    "efficiency_cpus": "efficiency CPUs",
    "cpu_model": "CPU model",
    "architecture": "architecture",
    "cpu_max_mhz": "highest clock",
    "cpu_steal_percent": "CPU time taken by the hypervisor",
    "memory_gb": "memory",
    "memory_available_gb": "memory free now",
    "memory_hugepages_gb": "huge pages",
    "swap_gb": "swap",
    "numa_nodes": "NUMA nodes",
    "numa_memory_gb": "memory of all NUMA nodes",
    "storage_gb": "storage",
    "storage_available_gb": "storage free now",
    "storage_inodes_available": "files that can be made",
    "storage_device": "work is stored on",
    "file_systems": "file systems",
    "gpus": "GPUs",
    "gpu_enabled": "GPU for work",
    "gpu_details": "GPUs in detail",
    "display_adapters": "screens only",
    "accelerators": "accelerators, no GPUs",
    "primary_address": "address",
    "addresses": "all addresses",
    "interfaces": "interfaces",
    "hostname": "host name",
    "os_version": "system",
    "kernel": "kernel",
    "boot_id": "boot id",
    "machine_hint": "machine hint",
    "container": "container",
    "virtual_machine": "virtual machine",
    "uptime_seconds": "up for",
    "clock_offset_seconds": "clock offset",
}
# Units that the label already says
_PLAIN_UNITS = frozenset(("CPUs", "cores", "sockets", "nodes", "inodes"))
_OFFERED = frozenset(("cpu_cores", "memory_gb", "storage_gb"))
# How a limit is called, by the end of the file that holds it
_CAUSES = {
    "/cpu.max": "the CPU quota of a control group",
    "/cpu.cfs_quota_us": "the CPU quota of a control group",
    "/memory.max": "the memory limit of a control group",
    "/memory.limit_in_bytes": "the memory limit of a control group",
    "/memory.stat": "the memory limit of a control group further up",
    "/memory.high": "the memory above which a control group is slowed down",
    "/cpuset.cpus.effective": "the CPU set of a control group",
    "/cpuset.effective_cpus": "the CPU set of a control group",
    "/cpuset.cpus": "the CPU set of a control group",
}
_NONE_MEANS = {
    "cpu_quota": "no limit",
    "container": "none",
    "virtual_machine": "none",
}


def table(report: ProbeReport) -> str:
    """One line a reading, what limited it beside it; the items of a list stand below each other."""
    rows = [row for reading in report.readings for row in _rows(reading)]
    width = max((len(row[0]) for row in rows), default=0)
    lines = [f"{label:{width}}  {value}" for label, value in rows]
    lines.extend(f"{'error':{width}}  {printable(f'{item.probe}: {_message(item)}')}" for item in report.errors)
    return "\n".join([*lines, ""])


def explained(report: ProbeReport) -> str:
    """A sentence or three a reading: offered, seen in the container, on the host, and what made the difference."""
    lines = [_summary(report), *(_explanation(reading) for reading in report.readings)]
    lines = lines if lines[0] else lines[1:]
    if report.errors:
        lines.append("\nWhat could not be told:")
        lines.extend(f"  {item.probe}: {printable(_message(item))}" for item in report.errors)
    return "\n".join([*lines, ""])


def _summary(report: ProbeReport) -> str:
    """What is offered in one sentence, of the probes that ran."""
    told = {reading.name for reading in report.readings}
    offered = report.capabilities_to_plain()
    usable = sum(gpu["usable"] for gpu in offered["gpus"])
    parts = {
        "cpu_cores": _counted(offered["cpu_cores"], "CPU"),
        "memory_gb": f"{offered['memory_gb']:g} GB of memory",
        "storage_gb": f"{offered['storage_gb']:g} GB of storage",
        "gpu_enabled": _counted(usable, "GPU") if usable else "a GPU" if offered["gpu_enabled"] else "no GPU",
    }
    words = [text for name, text in parts.items() if name in told]
    if not words:
        return ""
    return f"This machine offers {', '.join(words[:-1])}{' and ' if words[1:] else ''}{words[-1]}. GB is 10⁹ bytes.\n"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rows(reading: Reading) -> list[tuple[str, str]]:
    label = _LABELS.get(reading.name, reading.name)
    if isinstance(reading.value, list) and reading.value:
        return [(label if index == 0 else "", _text(item)) for index, item in enumerate(reading.value)]
    because = f"  ({printable(reading.limited_by)})" if reading.limited_by else ""
    return [(label, _shown(reading, reading.value) + because)]


def _explanation(reading: Reading) -> str:
    label = _capitalised(_LABELS.get(reading.name, reading.name))
    if isinstance(reading.value, (list, dict)) and reading.value:
        items = reading.value if isinstance(reading.value, list) else [reading.value]
        because = [f"  Why not all of it: {_cause(reading.limited_by)}."] if reading.limited_by else []
        because += [f"  {_capitalised(printable(reading.note))}."] if reading.note else []
        told_by = f"  (from {printable(reading.source)})"
        return "\n".join([f"{label}:", *(f"  - {_text(item)}" for item in items), *because, told_by])
    if not (reading.limited_by or reading.note or _differs(reading)):
        return f"{label}: {_shown(reading, reading.value)}  ({printable(reading.source)})"
    return "\n  ".join([f"{label}: {_told_apart(reading)}", *_reasons(reading)])


def _differs(reading: Reading) -> bool:
    return any(figure not in (None, reading.value) for figure in (reading.container, reading.host))


def _told_apart(reading: Reading) -> str:
    """`1 offered; 1.5 may be used by this process; 16 on the whole machine.`"""
    offered = reading.name in _OFFERED and reading.value is not None
    parts = [_shown(reading, reading.value) + (" offered" if offered else "")]
    if reading.container is not None and reading.container == reading.value and _differs(reading):
        parts.append("that is all that this process may use")
    elif reading.container is not None and reading.container != reading.value:
        seen = "measured, before the operator's word" if reading.set_by else "may be used by this process"
        parts.append(f"{_shown(reading, reading.container)} {seen}")
    if reading.host not in (None, reading.value):
        whole = "whole file system" if reading.name.startswith("storage") else "whole machine"
        parts.append(f"{_shown(reading, reading.host)} on the {whole}")
    return "; ".join(parts) + "."


def _reasons(reading: Reading) -> list[str]:
    lines = []
    if reading.limited_by:
        lines.append(f"What makes the difference: {_cause(reading.limited_by)}.")
    if reading.name == "cpu_cores" and isinstance(reading.container, float) and not reading.set_by:
        lines.append("A share of CPU time is offered as whole CPUs, rounded down, and never as less than one.")
    if reading.note:
        lines.append(f"{_capitalised(printable(reading.note))}.")
    if reading.source and reading.set_by != "override":
        lines.append(f"Read from {printable(reading.source)}.")
    return lines


def _cause(limited_by: str) -> str:
    """What a limit is, in words, before the file that says so."""
    for ending, words in _CAUSES.items():
        if limited_by.partition(";")[0].endswith(ending):
            return f"{words}, {printable(limited_by)}"
    return printable(limited_by)


def _message(item: Any) -> str:
    name = f"{item.reading}: " if item.reading else ""
    raw = f" (it was {item.raw})" if item.raw is not None else ""
    return f"{name}{item.message}{raw}"


def _shown(reading: Reading, value: Any) -> str:
    if value is None:
        return _NONE_MEANS.get(reading.name, "not known")
    if reading.name == "uptime_seconds":
        return f"{value / 3600:.1f} hours"
    unit = "" if reading.unit in _PLAIN_UNITS and reading.name != "cpu_quota" else f" {reading.unit}"
    return f"{_text(value)}{unit}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(_text(item) for item in value) if value else "none"
    if isinstance(value, dict):
        told = {name: item for name, item in value.items() if item not in (None, "", [], False)}
        return ", ".join(name.replace("_", " ") if item is True else _pair(name, item) for name, item in told.items())
    return printable(str(value))


def _pair(name: str, item: Any) -> str:
    """`name`, `address` and the like need no label in front of them."""
    if name in ("name", "vendor", "model", "mount_point"):
        return _text(item)
    if name.endswith("_gb"):
        return f"{name[:-3].replace('_', ' ')} {_text(item)} GB"
    if name.endswith("_mbit"):
        return f"{name[:-5].replace('_', ' ')} {_text(item)} Mbit/s"
    return f"{name.replace('_', ' ')} {_text(item)}"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
