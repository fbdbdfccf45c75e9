"""Compares the probe as root with the probe in the unit's sandbox: what differs, why, and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding

__all__ = ["compare"]

CHECK = "seen by the service"
# Free memory and disk change between two runs; what is offered changes by less than this.
SAME_WITHIN = 0.01

_FIELDS = {
    "cpu_cores": "CPUs",
    "cpu_quota": "CPU quota",
    "host_cpus": "CPUs of the host",
    "physical_cores": "physical cores",
    "memory_gb": "GB of memory",
    "storage_gb": "GB of storage",
    "cpu_model": "CPU model",
    "architecture": "architecture",
    "kernel": "kernel",
}
_REMEDIES = {
    "storage_gb": "the unit may not see the work directory (ProtectHome=): set agent.work_dir to another folder, or "
    "add [Service] BindReadOnlyPaths=FOLDER with `systemctl edit duxnet-agent.service`",
    "memory_gb": "the unit or its slice has a memory limit: see `systemctl cat duxnet-agent.service`",
    "cpu_cores": "the unit or its slice has a CPU limit: see `systemctl cat duxnet-agent.service`",
}
_GENERAL_REMEDY = (
    "`duxnet probe --explain` shows where a figure comes from; `systemctl cat duxnet-agent.service` shows "
)
_GENERAL_REMEDY += "the restrictions of the unit"
_GPU_REMEDY = "give the unit access to the device files: `sudo duxnet service install --gpu`"


def compare(root: Mapping[str, Any], service: Mapping[str, Any]) -> Sequence[Finding]:
    """The findings from two outputs of `duxnet probe --format json`: that of root and that of the service."""
    findings = [*_figures(root, service), *_gpus(root, service), *_errors(root, service)]
    return findings or [Finding(CHECK, OK, f"the same as root: {_offer(service['capabilities'])}")]


def _figures(root: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[Finding]:
    for name, words in _FIELDS.items():
        mine, its = root["capabilities"].get(name), service["capabilities"].get(name)
        if _is_same(mine, its):
            continue
        reason = _reason(name, service) or _reason(name, root)
        because = f", because of {reason}" if reason else ""
        yield Finding(
            CHECK,
            PROBLEM,
            f"{words}: the service sees {_shown(its)}, root {_shown(mine)}{because}",
            _REMEDIES.get(name, _GENERAL_REMEDY),
            {"field": name, "service": its, "root": mine, "limited_by": reason},
        )


def _gpus(root: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the number of GPUs and of usable GPUs. Ids are not compared: the sandbox may hide them."""
    mine, its = (document["capabilities"].get("gpus") or [] for document in (root, service))
    usable, usable_there = (sum(bool(gpu.get("usable")) for gpu in gpus) for gpus in (mine, its))
    if len(mine) == len(its) and usable == usable_there:
        return
    reasons = sorted({str(gpu["reason"]) for gpu in its if gpu.get("reason")})
    because = f" ({'; '.join(reasons)})" if reasons else ""
    yield Finding(
        CHECK,
        PROBLEM if usable > usable_there else NOTE,
        f"GPUs: the service can use {usable_there} of {len(its)}{because}, root {usable} of {len(mine)}",
        _GPU_REMEDY,
        {"field": "gpus", "service": its, "root": mine},
    )


def _errors(root: Mapping[str, Any], service: Mapping[str, Any]) -> Iterator[Finding]:
    """What the service cannot measure although root can and, as a note, what neither can."""
    known = {(error.get("probe"), error.get("message")) for error in root.get("errors", [])}
    for error in service.get("errors", []):
        for_root_too = (error.get("probe"), error.get("message")) in known
        who = "neither root nor the service can" if for_root_too else "the service, unlike root, cannot"
        yield Finding(
            CHECK,
            NOTE if for_root_too else PROBLEM,
            f"{who} measure {error.get('probe')}: {error.get('message')}",
            _GENERAL_REMEDY,
            {"error": dict(error)},
        )


def _is_same(mine: Any, its: Any) -> bool:
    numbers = (int, float)
    if isinstance(mine, numbers) and isinstance(its, numbers):
        return abs(mine - its) <= SAME_WITHIN * max(abs(mine), abs(its))
    return bool(mine == its)


def _reason(name: str, document: Mapping[str, Any]) -> str:
    for reading in document.get("readings", []):
        if reading.get("name") == name and reading.get("limited_by"):
            return str(reading["limited_by"])
    return ""


def _offer(capabilities: Mapping[str, Any]) -> str:
    usable = sum(bool(gpu.get("usable")) for gpu in capabilities.get("gpus") or [])
    cpus, memory, storage = (_shown(capabilities[name]) for name in ("cpu_cores", "memory_gb", "storage_gb"))
    return (
        f"{cpus} CPUs, {memory} GB of memory, {storage} GB of storage, {usable} usable GPU{'' if usable == 1 else 's'}"
    )


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
