"""Nothing unbelievable is published: ranges of single readings, and readings held against each other.

What fails is taken out and becomes an error that keeps the raw value. The ranges are those of the registry's
records (`registry_core.models.limits`), so that what passes here is accepted there.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional

from agent.probe.reading import Failure, Reading
from registry_core.errors import ValidationError
from registry_core.models import limits

__all__ = ["believable"]


def _whole(least: int, most: int) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.integer(name, value, least, most)


def _number(least: float, most: float) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.number(name, value, least, most)


def _text(limit: str) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.text(name, value, limit)


_RANGES: dict[str, Callable[[str, Any], Any]] = {
    "cpu_cores": _whole(1, limits.MAX_CPUS),
    "host_cpus": _whole(1, limits.MAX_CPUS),
    "physical_cores": _whole(1, limits.MAX_CPUS),
    "cpu_quota": _number(0.001, limits.MAX_CPUS),
    "cpus_offline": _whole(0, limits.MAX_CPUS),
    "cpu_max_mhz": _number(10, 20_000),
    "cpu_steal_percent": _number(0, 100),
    "cpu_model": _text("cpu_model"),
    "architecture": _text("architecture"),
    "kernel": _text("kernel"),
    "hostname": _text("hostname"),
    "os_version": _text("os_version"),
    "memory_gb": _number(0.001, limits.MAX_MEMORY_GB),
    "memory_available_gb": _number(0, limits.MAX_MEMORY_GB),
    "memory_hugepages_gb": _number(0, limits.MAX_MEMORY_GB),
    "swap_gb": _number(0, limits.MAX_STORAGE_GB),
    "storage_gb": _number(0, limits.MAX_STORAGE_GB),
    "storage_available_gb": _number(0, limits.MAX_STORAGE_GB),
    "storage_inodes_available": _whole(0, 1 << 63),
    "uptime_seconds": _number(0, 4e9),
    "clock_offset_seconds": _number(-1e9, 1e9),
}

# (smaller, larger): a part is never more than its whole
_AT_MOST = (
    ("memory_available_gb", "memory_gb"),
    ("storage_available_gb", "storage_gb"),
    ("physical_cores", "host_cpus"),
    ("cpu_cores", "host_cpus"),
)


def believable(probe: str, readings: list[Reading]) -> tuple[list[Reading], list[Failure]]:
    """The readings that pass, and a failure for each that does not."""
    failures: list[Failure] = []
    kept: list[Reading] = []
    for reading in readings:
        checked, failure = _in_range(probe, reading)
        kept.append(checked)
        if failure is not None:
            failures.append(failure)
    values = {reading.name: reading.value for reading in kept}
    for part, whole in _AT_MOST:
        if _above(values.get(part), values.get(whole)):
            message = f"is more than {whole}, which is {values[whole]}"
            failures.append(Failure(probe, f"{part} {message}", part, values[part]))
            kept = [reading._replace(value=None) if reading.name == part else reading for reading in kept]
    return kept, failures


def _above(part: Any, whole: Any) -> bool:
    numbers = isinstance(part, (int, float)) and isinstance(whole, (int, float))
    return numbers and part > whole * 1.001


def _in_range(probe: str, reading: Reading) -> tuple[Reading, Optional[Failure]]:
    if reading.value is None:
        return reading, None
    try:
        if reading.name == "gpus":
            return _believable_gpus(probe, reading)
        check = _RANGES.get(reading.name)
        if check is not None:
            check(reading.name, reading.value)
    except ValidationError as error:
        return reading._replace(value=None), Failure(
            probe, f"not believable: {error.rule}", error.field, _plain(reading.value)
        )
    return reading, None


def _plain(value: Any) -> Any:
    """The raw value as JSON can hold it."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _believable_gpus(probe: str, reading: Reading) -> tuple[Reading, Optional[Failure]]:
    gpus = reading.value
    if not isinstance(gpus, list) or len(gpus) > limits.MAX_GPUS:
        count = len(gpus) if isinstance(gpus, list) else gpus
        return reading._replace(value=[]), Failure(probe, f"not believable: {count} GPUs", "gpus", count)
    for gpu in gpus:
        for name in ("vendor", "model", "uuid", "driver_version", "reason"):
            limits.text(f"gpus.{name}", gpu[name], f"gpu.{name}")
        limits.number("gpus.memory_gb", gpu["memory_gb"], 0, limits.MAX_GPU_MEMORY_GB)
    return reading, None
