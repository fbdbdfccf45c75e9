"""Plausibility checks before publication: ranges of single readings, and comparisons between readings.

A value that fails is removed and becomes an error with the raw value. The ranges are those of the registry's records
(`registry_core.models.limits`), so that the registry accepts everything that passes here.
"""

from __future__ import annotations

import math
from typing import Any, Callable

from agent.probe.parsers.addresses import Scope, scope_of
from agent.probe.reading import Failure, Reading
from registry_core.errors import ValidationError
from registry_core.models import limits

__all__ = ["believable"]


def _whole(least: int, most: int) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.integer(name, value, least, most)


def _number(least: float, most: float) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.number(name, value, least, most)


def _text(limit: str) -> Callable[[str, Any], Any]:
    return lambda name, value: limits.displayable(name, value, limit)


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

_GPU_TEXTS = ("vendor", "model", "uuid", "driver_version", "reason")

# (part, whole): a part never exceeds its whole
_AT_MOST = (
    ("memory_available_gb", "memory_gb"),
    ("storage_available_gb", "storage_gb"),
    ("physical_cores", "host_cpus"),
    ("cpu_cores", "host_cpus"),
)


def believable(probe: str, readings: list[Reading]) -> tuple[list[Reading], list[Failure]]:
    """The plausible readings, and a failure for each of the others."""
    failures: list[Failure] = []
    kept = [_in_range(probe, reading, failures) for reading in readings]
    values = {reading.name: reading.value for reading in kept}
    if isinstance(values.get("gpus"), list):
        usable = any(gpu["usable"] for gpu in values["gpus"])
        kept = [reading._replace(value=usable) if reading.name == "gpu_enabled" else reading for reading in kept]
    for part, whole in _AT_MOST:
        if _above(values.get(part), values.get(whole)):
            message = f"implausible: more than {whole}, which is {values[whole]}"
            failures.append(Failure(probe, message, part, values[part]))
            kept = [reading._replace(value=None) if reading.name == part else reading for reading in kept]
    return kept, failures


def _above(part: Any, whole: Any) -> bool:
    numbers = isinstance(part, (int, float)) and isinstance(whole, (int, float))
    return numbers and part > whole * 1.001


def _in_range(probe: str, reading: Reading, failures: list[Failure]) -> Reading:
    if reading.value is None:
        return reading
    if reading.name == "gpus":
        return _believable_gpus(probe, reading, failures)
    if reading.name == "addresses":
        return _believable_addresses(probe, reading, failures)
    check = _RANGES.get(reading.name)
    try:
        if check is not None:
            check(reading.name, reading.value)
    except ValidationError as error:
        failures.append(_not_believable(probe, reading.name, error.rule, reading.value))
        return reading._replace(value=None)
    return reading


def _not_believable(probe: str, name: str, rule: str, raw: Any) -> Failure:
    plain = (
        repr(raw) if isinstance(raw, float) and not math.isfinite(raw) else raw
    )  # because JSON has no NaN and no infinity
    return Failure(probe, f"implausible: {rule}", name, plain)


def _believable_addresses(probe: str, reading: Reading, failures: list[Failure]) -> Reading:
    bad = [address for address in reading.value if scope_of(address) == Scope.NONE]
    failures.extend(_not_believable(probe, "addresses", "must be an address", address) for address in bad)
    good = [address for address in reading.value if address not in bad]
    return reading._replace(value=good[: limits.MAX_ADDRESSES])


def _believable_gpus(probe: str, reading: Reading, failures: list[Failure]) -> Reading:
    """A GPU with an implausible field is reported as not usable; an implausible number of GPUs is not reported."""
    gpus = reading.value
    if len(gpus) > limits.MAX_GPUS:
        failures.append(_not_believable(probe, "gpus", f"must be at most {limits.MAX_GPUS} GPUs", len(gpus)))
        return reading._replace(value=[])
    return reading._replace(value=[_believable_gpu(probe, index, gpu, failures) for index, gpu in enumerate(gpus)])


def _believable_gpu(probe: str, index: int, gpu: dict[str, Any], failures: list[Failure]) -> dict[str, Any]:
    for name, empty in (*((name, "") for name in _GPU_TEXTS), ("memory_gb", 0.0)):
        try:
            if name == "memory_gb":
                limits.number(name, gpu[name], 0, limits.MAX_GPU_MEMORY_GB)
            else:
                limits.displayable(name, gpu[name], f"gpu.{name}")
        except ValidationError as error:
            failures.append(_not_believable(probe, f"gpus[{index}].{name}", error.rule, gpu[name]))
            gpu = {**gpu, name: empty, "usable": False, "reason": f"its {name} is implausible"}
    return gpu
