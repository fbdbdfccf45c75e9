"""The same probe run twice, as root and inside the unit's sandbox: what differs, why, and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding

__all__ = ["compare"]

CHECK = "seen by the service"
# Free figures move between two runs; what is offered does not, by more than this.
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
    "storage_gb": "the work directory may be hidden from the unit (ProtectHome=): move it with agent.work_dir, or let "
    "the unit see it: `systemctl edit duxnet-agent.service` with [Service] BindReadOnlyPaths=THE_FOLDER",
    "memory_gb": "a memory limit is set on the unit or its slice: see `systemctl cat duxnet-agent.service`",
    "cpu_cores": "a CPU limit is set on the unit or its slice: see `systemctl cat duxnet-agent.service`",
}
_GENERAL_REMEDY = "`duxnet probe --explain` says where a figure comes from; `systemctl cat duxnet-agent.service` shows "
_GENERAL_REMEDY += "what closes the unit"
_GPU_REMEDY = "open the device files to the unit: `sudo duxnet service install --gpu`"


def compare(root: Mapping[str, Any], service: Mapping[str, Any]) -> Sequence[Finding]:
    """Findings from two documents of `duxnet probe --format json`: root's, and the service's."""
    findings = [*_figures(root, service), *_gpus(root, service), *_errors(root, service)]
    return findings or [Finding(CHECK, OK, f"what root sees: {_offer(service['capabilities'])}")]


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
    """GPUs are compared by count and by what can be used: the sandbox may hide the id of one."""
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
    """What the service cannot find out although root can; and, as a note, what neither can."""
    known = {(error.get("probe"), error.get("message")) for error in root.get("errors", [])}
    for error in service.get("errors", []):
        everybody = (error.get("probe"), error.get("message")) in known
        who = "nobody" if everybody else "the service, unlike root,"
        yield Finding(
            CHECK,
            NOTE if everybody else PROBLEM,
            f"{who} can tell {error.get('probe')}: {error.get('message')}"
            if everybody
            else f"{who} cannot tell {error.get('probe')}: {error.get('message')}",
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
