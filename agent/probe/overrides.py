"""Applies the operator's reserves and overrides to what was measured, and marks them in the output."""

from __future__ import annotations

from typing import Any

from agent.probe.options import OVERRIDABLE, ProbeOptions
from agent.probe.reading import Reading

__all__ = ["apply_operator"]


def apply_operator(probe: str, readings: list[Reading], options: ProbeOptions) -> list[Reading]:
    """An override replaces a reading or supplies one that failed; otherwise a reserve is subtracted.

    The measured figure is kept as `container`.
    """
    reserves: dict[str, float] = {
        "cpu_cores": options.reserve_cpus,
        "memory_gb": options.reserve_memory_gb,
        "storage_gb": options.reserve_storage_gb,
    }
    names = {reading.name for reading in readings}
    missing = [name for name in options.overrides if OVERRIDABLE[name][0] == probe and name not in names]
    changed = []
    for reading in [*readings, *(Reading(name, None, OVERRIDABLE[name][1]) for name in missing)]:
        if reading.name in options.overrides:
            changed.append(_overridden(reading, options.overrides[reading.name]))
        elif isinstance(reading.value, list) and reading.name == "gpus" and "gpu_enabled" in options.overrides:
            changed.append(_switched(reading, options.overrides["gpu_enabled"]))
        elif reserves.get(reading.name) and isinstance(reading.value, (int, float)):
            changed.append(_reserved(reading, reserves[reading.name]))
        else:
            changed.append(reading)
    return changed


def _measured(reading: Reading) -> Any:
    return reading.value if reading.container is None else reading.container


def _overridden(reading: Reading, value: Any) -> Reading:
    return reading._replace(
        value=value,
        source="operator",
        limited_by="overridden by the operator",
        container=_measured(reading),
        set_by="override",
    )


def _switched(reading: Reading, enabled: bool) -> Reading:
    """Make the list of GPUs agree with `gpu_enabled`: the override applies to each of them."""
    reason = "" if enabled else "disabled by the operator"
    gpus = [gpu if gpu["usable"] == enabled else {**gpu, "usable": enabled, "reason": reason} for gpu in reading.value]
    if gpus == reading.value:
        return reading
    return reading._replace(value=gpus, limited_by="overridden by the operator", set_by="override")


def _reserved(reading: Reading, reserve: float) -> Reading:
    if reading.name == "cpu_cores":
        left: float = max(1, reading.value - int(reserve))  # a node has at least one CPU
    else:
        left = round(max(0.0, reading.value - reserve), 3)
    unit = "CPU" if (reading.name, reserve) == ("cpu_cores", 1) else reading.unit
    because = f"{reserve:g} {unit} reserved by the operator"
    limited_by = f"{reading.limited_by}; {because}" if reading.limited_by else because
    return reading._replace(value=left, limited_by=limited_by, container=_measured(reading), set_by="reserve")
