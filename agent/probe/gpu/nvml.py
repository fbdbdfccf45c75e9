"""Interprets NVML's answers: converts the document of `nvml_call`, live or recorded, to GPUs with reasons.

The document comes from another process or a recording, so every value in it is checked.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Optional

from agent.probe.gpu import reasons
from agent.probe.reading import Failure
from registry_core.models.limits import MAX_GPUS

__all__ = ["NvmlAnswer", "NvmlGpu", "bus_address", "nvml_answer"]

_BUS_ID = re.compile(r"([0-9A-Fa-f]{4,8}):([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})\.([0-7])\Z")
_PROHIBITED = 2  # nvmlComputeMode_t
_NOT_SUPPORTED = 3  # of memory: a GPU that uses the machine's memory has none of its own
_DESCRIBING = ("nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo")
_LOOK_UPS = ("nvmlDeviceGetHandleByPciBusId", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMigDeviceHandleByIndex")


class NvmlGpu(NamedTuple):
    """A GPU, or a MIG instance of the GPU with the UUID `parent`. `address` is empty if NVML does not give it.

    `integrated`: it has no memory of its own and uses the machine's (GB10, Jetson).
    """

    address: str
    uuid: str
    model: str
    memory_bytes: Optional[int]
    reason: str
    parent: str = ""
    integrated: bool = False
    compute_capability: str = ""


class NvmlAnswer(NamedTuple):
    """`reason` applies to every GPU that is not in `gpus`: why NVML did not describe it."""

    gpus: list[NvmlGpu]
    reason: str
    driver_version: str
    cuda_version: str
    failures: list[Failure]
    knows_library: bool  # the query did not crash or hang, so that reading the driver's files is safe


def bus_address(bus_id: object) -> str:
    """NVML's `00000000:3B:00.0` as the kernel writes it, `0000:3b:00.0`; empty for anything else."""
    match = _BUS_ID.match(bus_id) if isinstance(bus_id, str) else None
    if match is None:
        return ""
    domain, bus, device, function = (int(part, 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


def nvml_answer(document: object) -> NvmlAnswer:
    """Interpret a document. An implausible value is a failure with the raw value."""
    answers = document if isinstance(document, dict) else {"detail": "no answer"}
    failures: list[Failure] = []
    system = _map(answers.get("system"))
    count = _number(system.get("device_count"))
    if count is not None and count > MAX_GPUS:
        failures.append(Failure("gpu", f"NVML counts more GPUs than possible: at most {MAX_GPUS}", "gpus", count))
    output = answers.get("output")
    if output:
        failures.append(Failure("gpu", "NVIDIA's library printed unexpected output", raw=_short(output)))
    gpus: list[NvmlGpu] = []
    listed = answers.get("devices")
    for device in listed[:MAX_GPUS] if isinstance(listed, list) else []:
        gpus.extend(_gpus_of(_map(device), failures))
    return NvmlAnswer(
        gpus,
        _reason_unlisted(answers),
        _text(system.get("driver_version")),
        _cuda_version(system.get("cuda_version")),
        failures,
        answers.get("outcome") in ("answered", "not-installed"),
    )


def _reason_unlisted(answers: dict[str, Any]) -> str:
    outcome = answers.get("outcome")
    failed = _map(answers.get("failed"))
    if outcome == "answered":
        return reasons.nvml_reason(failed.get("code"), str(failed.get("call"))) if failed else reasons.NOT_OFFERED
    if outcome == "not-installed":
        return reasons.LIBRARY_NOT_INSTALLED
    at = f" in {_short(answers['at'], 60)}" if answers.get("at") else ""
    if outcome == "crashed":
        return f"library-crashed: NVIDIA's library crashed with {_short(answers.get('signal'), 20)}{at}; check dmesg"
    if outcome == "hung":
        return f"library-hung: NVIDIA's library did not answer in time{at} and was killed; check dmesg"
    if outcome == "stuck":
        return "driver-stuck: an earlier query still hangs in the driver; the machine may need a restart"
    return f"nvml-failed: querying NVIDIA's library failed{at}: {_short(answers.get('detail'), 120)}"


def _gpus_of(device: dict[str, Any], failures: list[Failure]) -> list[NvmlGpu]:
    """The GPU, or instead its MIG instances: then the whole GPU cannot be used."""
    address = bus_address(device.get("bus_id"))
    whole = _gpu(device, address, "", failures)
    if device.get("compute_mode") == _PROHIBITED and not whole.reason:
        whole = whole._replace(reason=reasons.COMPUTE_PROHIBITED)
    if device.get("mig") is not True:
        return [whole]
    listed = device.get("instances")
    instances = [
        _gpu(_map(item), address, whole.uuid or address, failures)
        for item in (listed[:MAX_GPUS] if isinstance(listed, list) else [])
    ]
    instances = [item._replace(compute_capability=whole.compute_capability) for item in instances]
    return instances or [whole._replace(reason=whole.reason or reasons.MIG_EMPTY)]


def _gpu(device: dict[str, Any], address: str, parent: str, failures: list[Failure]) -> NvmlGpu:
    errors = _map(device.get("errors"))
    reason = next((reasons.nvml_reason(errors[call], call) for call in _LOOK_UPS if call in errors), "")
    lost = next((code for code in errors.values() if code in (15, 16)), None)  # it may be lost between two calls
    if lost is not None:
        reason = reasons.nvml_reason(lost, "")
    uuid = _text(device.get("uuid"))
    if not reason:
        failures.extend(
            Failure("gpu", f"{call} failed for the GPU {uuid or address}", "gpus", errors[call])
            for call in _DESCRIBING
            if errors.get(call, _NOT_SUPPORTED) != _NOT_SUPPORTED
        )
    memory_bytes = _number(device.get("memory_bytes"))
    integrated = memory_bytes is None and errors.get("nvmlDeviceGetMemoryInfo") == _NOT_SUPPORTED and not parent
    capability = _capability(device.get("compute_capability"))
    return NvmlGpu(address, uuid, _text(device.get("name")), memory_bytes, reason, parent, integrated, capability)


def _capability(value: object) -> str:
    """[8, 6] → 8.6; empty for anything else."""
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else ()
    numbers = [number for number in map(_number, pair) if number is not None and 0 <= number < 100]
    return f"{numbers[0]}.{numbers[1]}" if len(numbers) == 2 else ""


def _cuda_version(value: object) -> str:
    """12040 → 12.4"""
    number = _number(value)
    return f"{number // 1000}.{number % 1000 // 10}" if number is not None and 0 < number < 1_000_000 else ""


def _number(value: object) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _short(value: object, most: int = 200) -> str:
    """A value for an error text: one line, printable, truncated."""
    return "".join(character if character.isprintable() else " " for character in str(value))[:most].strip()
