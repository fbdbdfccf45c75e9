"""Formats a report as text: a sentence and a table, or an explanation in sentences.

Host names, mount points and models come from the machine, so unprintable characters are escaped.
"""

from __future__ import annotations

from typing import Any, Optional

from agent.probe.reading import Reading
from agent.probe.report import ProbeReport
from registry_core.errors import printable

__all__ = ["explained", "table"]

# The groups of the table, and their readings in order, with labels
_GROUPS = {
    "CPU": {
        "cpu_cores": "CPUs",
        "cpu_quota": "CPU quota",
        "host_cpus": "CPUs of the host",
        "physical_cores": "physical cores",
        "cpu_sockets": "CPU sockets",
        "cpus_offline": "CPUs offline",
        "performance_cpus": "performance CPUs",
        "efficiency_cpus": "efficiency CPUs",
        "cpu_model": "CPU model",
        "architecture": "architecture",
        "cpu_features": "instruction sets",
        "cpu_max_mhz": "maximum clock",
        "cpu_steal_percent": "CPU time taken by the hypervisor",
    },
    "Memory": {
        "memory_gb": "memory",
        "memory_available_gb": "memory free now",
        "memory_hugepages_gb": "huge pages",
        "swap_gb": "swap",
        "numa_nodes": "NUMA nodes",
        "numa_memory_gb": "memory of all NUMA nodes",
    },
    "Storage": {
        "storage_gb": "storage",
        "storage_available_gb": "storage free now",
        "storage_inodes_available": "free inodes",
        "storage_device": "work directory on",
        "storage_kind": "disk type",
        "file_systems": "file systems",
    },
    "GPU": {
        "gpus": "GPUs",
        "gpu_enabled": "usable GPU",
        "gpu_details": "GPU details",
        "display_adapters": "display adapters",
        "accelerators": "other accelerators",
    },
    "Network": {
        "primary_address": "address",
        "addresses": "all addresses",
        "interfaces": "interfaces",
    },
    "Host": {
        "hostname": "host name",
        "os_version": "operating system",
        "kernel": "kernel",
        "boot_id": "boot id",
        "machine_hint": "machine hint",
        "container": "container",
        "virtual_machine": "virtual machine",
        "kvm": "can run virtual machines",
        "container_runtimes": "container runtimes",
        "on_mains": "on mains power",
        "battery_percent": "battery",
        "temperature_celsius": "hottest sensor",
        "uptime_seconds": "uptime",
        "clock_offset_seconds": "clock offset",
    },
}
_LABELS = {name: label for readings in _GROUPS.values() for name, label in readings.items()}
# Shown only with --all: for programs, or already part of another row
_DETAILS = frozenset(
    (
        "architecture", "boot_id", "clock_offset_seconds", "cpu_sockets", "gpu_details", "gpu_enabled", "machine_hint",
        "numa_memory_gb", "numa_nodes", "storage_inodes_available", "uptime_seconds",
    )
)  # fmt: skip
# Notes that are the same on every machine and get no mark
_COMMON_NOTES = frozenset(
    ("each device once", "routable ones first", "a hint: clones share it", "drives a screen, does not compute")
)
_MOST_LINES = 6  # of one list
# Units that the label already contains
_PLAIN_UNITS = frozenset(("CPUs", "cores", "sockets", "nodes", "inodes"))
_OFFERED = frozenset(("cpu_cores", "memory_gb", "storage_gb"))
# Descriptions of limits, by the last part of the path
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


def table(report: ProbeReport, *, everything: bool = False) -> str:
    """The offer in a sentence, then the informative readings (or all of them) in groups."""
    values = {reading.name: reading.value for reading in report.readings}
    doubtful = {failure.reading for failure in report.errors}
    rows: list[tuple[str, str, str]] = []
    marked = False
    for group, names in _GROUPS.items():
        title = group
        for reading in report.readings:
            if reading.name not in names or not (everything or _is_informative(reading, values, doubtful)):
                continue
            has_note = bool(set(reading.note.split("; ")) - _COMMON_NOTES - {""})
            marked = marked or has_note
            for label, value in _rows(reading, values, doubtful, everything):
                rows.append((title, f"{label} *" if has_note and label else label, value))
                title = ""
    rows += [("error", failure.probe, printable(_message(failure))) for failure in report.errors]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [f"{group:{widths[0]}}  {label:{widths[1]}}  {value}" for group, label, value in rows]
    more = ["\n* details: duxnet probe --explain"] if marked else []
    return "\n".join([_summary(report), *lines, *more, ""]).lstrip("\n")


def _is_informative(reading: Reading, values: dict[str, Any], doubtful: set[Optional[str]]) -> bool:
    """False for a reading that is empty, unknown without a reason, or part of another row."""
    name, value = reading.name, reading.value
    if name in doubtful:
        return True
    if value is None or value in ("", [], {}):
        return name == "gpus" and value == []
    noted = bool(set(reading.note.split("; ")) - _COMMON_NOTES - {""})
    if name == "numa_memory_gb":
        return noted
    if name in _DETAILS or (name in ("memory_hugepages_gb", "swap_gb") and not value and not noted):
        return False
    if name in ("cpus_offline", "cpu_steal_percent"):
        return bool(value)
    if name in ("host_cpus", "physical_cores"):
        return bool(value != values.get("cpu_cores"))
    if name == "addresses":
        return bool(value != [values.get("primary_address")])
    if name == "file_systems":
        return len(value) > 1
    if name == "kernel":
        return bool(value != values.get("os_version"))
    return True


def explained(report: ProbeReport) -> str:
    """One to three sentences for each reading: what is offered, what container and host have, and what limits it."""
    lines = [_summary(report), *(_explanation(reading) for reading in report.readings)]
    lines = lines if lines[0] else lines[1:]
    if report.errors:
        lines.append("\nWhat could not be determined:")
        lines.extend(f"  {item.probe}: {printable(_message(item))}" for item in report.errors)
    return "\n".join([*lines, ""])


def _summary(report: ProbeReport) -> str:
    """The offer in one sentence, as far as the probes have run."""
    present = {reading.name for reading in report.readings}
    offered = report.capabilities_to_plain()
    usable = sum(gpu["usable"] for gpu in offered["gpus"] or [])
    parts = {
        "cpu_cores": f"{offered['cpu_cores']} CPU{'' if offered['cpu_cores'] == 1 else 's'}",
        "memory_gb": _gb_of(offered["memory_gb"], "memory"),
        "storage_gb": _gb_of(offered["storage_gb"], "storage"),
        "gpu_enabled": _counted(usable, "GPU") if usable else "a GPU" if offered["gpu_enabled"] else "no GPU",
    }
    words = [text for name, text in parts.items() if name in present and offered[name] is not None]
    if not words:
        return ""
    return f"This machine offers {', '.join(words[:-1])}{' and ' if words[1:] else ''}{words[-1]}. GB is 10⁹ bytes.\n"


def _gb_of(size: Any, what: str) -> str:
    return f"{size:g} GB of {what}" if isinstance(size, (int, float)) else ""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rows(
    reading: Reading, values: dict[str, Any], doubtful: set[Optional[str]], everything: bool
) -> list[tuple[str, str]]:
    label = _LABELS.get(reading.name, reading.name)
    if isinstance(reading.value, list) and reading.value:
        lines = [_text(item) for item in reading.value]
        if not everything:
            lines = _folded(reading, values)
        elif reading.name in ("addresses", "cpu_features", "container_runtimes"):
            lines = [_text(reading.value)]
        return [(label if index == 0 else "", line) for index, line in enumerate(lines)]
    if reading.value is None and (reading.name in doubtful or reading.note):
        return [(label, "unknown")]
    limited = reading.limited_by and (everything or not reading.name.endswith("_available_gb"))
    because = f"  ({printable(str(reading.limited_by))})" if limited else ""
    return [(label, _shown(reading, reading.value) + because)]


def _folded(reading: Reading, values: dict[str, Any]) -> list[str]:
    """The lines of a shortened list: one for each GPU, interfaces with addresses, a count of the rest."""
    items = reading.value
    if reading.name == "gpus":
        return [_gpu_text(gpu, detail) for gpu, detail in zip(items, values.get("gpu_details") or [{}] * len(items))]
    if reading.name == "interfaces":
        items = [item for item in items if item["name"] != "lo"]
        offered = set(values.get("addresses") or ())
        shown = [item for item in items if item["up"] and offered & set(item["addresses"])]
        lines = [_interface_text(item, offered) for item in shown[:_MOST_LINES]]
    elif reading.name in ("addresses", "cpu_features", "container_runtimes"):
        words = " ".join(_text(item) for item in items[: 4 * _MOST_LINES])
        return [words + (f" … and {len(items) - 4 * _MOST_LINES} more" if len(items) > 4 * _MOST_LINES else "")]
    else:
        lines = [_text(item) for item in items[:_MOST_LINES]]
    left = len(items) - len(lines)
    return [*lines, f"… and {left} more"] if left and lines else lines or [f"{left} without a reachable address"]


def _gpu_text(gpu: dict[str, Any], detail: dict[str, Any]) -> str:
    """One line for a GPU: model, memory, and whether it is usable or why not."""
    name = gpu["model"] if gpu["model"].startswith(gpu["vendor"]) else f"{gpu['vendor']} {gpu['model']}"
    memory = f"{gpu['memory_gb']:g} GB" if gpu["memory_gb"] else ""
    shared = detail.get("shared_memory_gb")
    shared_text = f"{shared:g} GB shared with the machine" if shared else ""
    capability = f"compute {detail['compute_capability']}" if detail.get("compute_capability") else ""
    usable = "usable" if gpu["usable"] else f"not usable: {gpu['reason']}"
    return printable(", ".join(part for part in (name.strip(), memory, shared_text, capability, usable) if part))


def _interface_text(item: dict[str, Any], offered: set[str]) -> str:
    speed = f"{item['speed_mbit']:g} Mbit/s" if item.get("speed_mbit") else ""
    mine = [address for address in item["addresses"] if address in offered]
    more = f"… and {len(mine) - 3} more" if len(mine) > 3 else ""
    addresses = " ".join([*mine[:3], more]).strip()
    return printable(", ".join(part for part in (item["name"], speed, addresses) if part))


def _explanation(reading: Reading) -> str:
    label = _capitalised(_LABELS.get(reading.name, reading.name))
    if isinstance(reading.value, (list, dict)) and reading.value:
        items = reading.value if isinstance(reading.value, list) else [reading.value]
        because = [f"  Limited by: {_cause(reading.limited_by)}."] if reading.limited_by else []
        because += [f"  {_capitalised(printable(reading.note))}."] if reading.note else []
        read_from = f"  (from {printable(reading.source)})"
        return "\n".join([f"{label}:", *(f"  - {_text(item)}" for item in items), *because, read_from])
    if not (reading.limited_by or reading.note or _differs(reading)):
        return f"{label}: {_shown(reading, reading.value)}  ({printable(reading.source)})"
    return "\n  ".join([f"{label}: {_figures(reading)}", *_reasons(reading)])


def _differs(reading: Reading) -> bool:
    return any(figure not in (None, reading.value) for figure in (reading.container, reading.host))


def _figures(reading: Reading) -> str:
    """`1 offered; 1.5 may be used by this process; 16 on the whole machine.`"""
    offered = reading.name in _OFFERED and reading.value is not None
    parts = [_shown(reading, reading.value) + (" offered" if offered else "")]
    if reading.container is not None and reading.container == reading.value and _differs(reading):
        parts.append("that is all that this process may use")
    elif reading.container is not None and reading.container != reading.value:
        seen = "measured, before the operator's setting" if reading.set_by else "may be used by this process"
        parts.append(f"{_shown(reading, reading.container)} {seen}")
    if reading.host not in (None, reading.value):
        whole = "whole file system" if reading.name.startswith("storage") else "whole machine"
        parts.append(f"{_shown(reading, reading.host)} on the {whole}")
    return "; ".join(parts) + "."


def _reasons(reading: Reading) -> list[str]:
    lines = []
    if reading.limited_by:
        lines.append(f"Limited by: {_cause(reading.limited_by)}.")
    if reading.name == "cpu_cores" and isinstance(reading.container, float) and not reading.set_by:
        lines.append("A share of CPU time is offered as whole CPUs, rounded down, but at least one.")
    if reading.note:
        lines.append(f"{_capitalised(printable(reading.note))}.")
    if reading.source and reading.set_by != "override":
        lines.append(f"Read from {printable(reading.source)}.")
    return lines


def _cause(limited_by: str) -> str:
    """A description of a limit, followed by its path."""
    for ending, words in _CAUSES.items():
        if limited_by.partition(";")[0].endswith(ending):
            return f"{words}, {printable(limited_by)}"
    return printable(limited_by)


def _message(item: Any) -> str:
    name = f"{item.reading}: " if item.reading else ""
    raw = f" (value: {item.raw})" if item.raw is not None else ""
    return f"{name}{item.message}{raw}"


def _shown(reading: Reading, value: Any) -> str:
    if value is None:
        return _NONE_MEANS.get(reading.name, "unknown")
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
        present = {name: item for name, item in value.items() if item not in (None, "", [], False)}
        return ", ".join(
            name.replace("_", " ") if item is True else _pair(name, item) for name, item in present.items()
        )
    return printable(str(value))


def _pair(name: str, item: Any) -> str:
    """One item with its label; `name` and the like need none."""
    if name in ("name", "vendor", "model", "mount_point"):
        return _text(item)
    if name.endswith("_gb"):
        return f"{name[:-3].replace('_', ' ')} {_text(item)} GB"
    if name.endswith("_mbit"):
        return f"{name[:-5].replace('_', ' ')} {_text(item)} Mbit/s"
    return f"{name.replace('_', ' ')} {_text(item)}"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
