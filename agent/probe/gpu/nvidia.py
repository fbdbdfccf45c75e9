"""NVIDIA's GPUs: by NVML if the driver is loaded, by PCI and /proc/driver/nvidia if NVML gives no answer.

A sleeping GPU is not queried: NVML would wake it, and so would reading its `information` file in /proc
(the driver takes a power reference for it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

from agent.probe.gpu import reasons
from agent.probe.gpu.device_files import NVIDIA_CONTROL, NVIDIA_PROC, NVIDIA_WSL, access, trouble_with
from agent.probe.gpu.finding import INTEGRATED_NOTE, GpuFinding, GpuRead
from agent.probe.gpu.nvml import NvmlAnswer, NvmlGpu, nvml_answer
from agent.probe.gpu.pci import PciDevice, maker_and_model
from agent.probe.main_memory import main_memory
from agent.probe.source import Source, SourceError

__all__ = ["kernel_module_version", "model_in_proc", "read"]

_DRIVER = ("nvidia",)

# NVML's reasons if it cannot open its device file although the module is loaded: checking the file gives a better one
_VAGUE = ("driver-not-loaded:", "no-permission:", "devices-lost:", "blocked:")

_VERSION = re.compile(r"Kernel Module\b.*?\s{2,}([0-9]+(?:\.[0-9]+)+)")
_LONGEST_VERSION_LINE = 500  # at most this much is searched: the time grows quadratically
_MODEL = re.compile(r"^Model:\s*(\S.*?)\s*$", re.MULTILINE)


def read(source: Source, devices: Sequence[PciDevice]) -> GpuRead:
    """A finding for each device, or several for a GPU with MIG instances."""
    version = kernel_module_version(source.read_text(f"{NVIDIA_PROC}/version"))
    queried = [item for item in devices if not reasons.driver_reason(item.driver, _DRIVER) and not item.asleep]
    if devices and not queried:
        return GpuRead([_from_pci(source, item, version, "") for item in devices], [])
    answer = _ask(source, [item.address for item in queried])
    if version and answer.reason.startswith(_VAGUE):
        answer = answer._replace(reason=trouble_with(source, NVIDIA_CONTROL) or answer.reason)
    answer = answer._replace(driver_version=answer.driver_version or version)
    findings: list[GpuFinding] = []
    for device in devices:
        listed_gpus = [gpu for gpu in answer.gpus if gpu.address == device.address] if device in queried else []
        findings.extend(_from_nvml(source, device, gpu, answer) for gpu in listed_gpus)
        if not listed_gpus:
            reason_unlisted = _reason_for(answer, device)
            findings.append(_from_pci(source, device, answer.driver_version, reason_unlisted, answer.knows_library))
    return GpuRead(findings if devices else _without_pci(source, answer, version), answer.failures)


def _without_pci(source: Source, answer: NvmlAnswer, module_version: str) -> list[GpuFinding]:
    """What NVML lists if no NVIDIA device is visible on PCI. If it lists none although the driver is loaded, there is a
    GPU that is not visible: lost from the bus, or hidden from this container."""
    if answer.gpus or answer.reason == reasons.NOT_OFFERED:
        return [_from_nvml(source, None, gpu, answer) for gpu in answer.gpus]
    if not module_version and access(source, NVIDIA_WSL) == "missing":
        return []
    return [GpuFinding("NVIDIA", driver_version=module_version, reason=answer.reason, source="NVML")]


def _reason_for(answer: NvmlAnswer, device: PciDevice) -> str:
    """Why NVML did not describe a device. A sleeping one was not queried, so only general reasons apply to it."""
    return "" if device.asleep and answer.reason == reasons.NOT_OFFERED else answer.reason


def _ask(source: Source, addresses: Sequence[str]) -> NvmlAnswer:
    try:
        document = source.ask("nvml", ",".join(addresses))
    except (SourceError, OSError) as error:  # not in this recording; no process can be started
        document = {"outcome": "failed", "detail": str(error)}
    return nvml_answer(document)


def _from_nvml(source: Source, device: Optional[PciDevice], gpu: NvmlGpu, answer: NvmlAnswer) -> GpuFinding:
    model = gpu.model
    if not model and device is not None:
        model = maker_and_model(source, device)[1]
    notes = [f"CUDA {answer.cuda_version}"] if answer.cuda_version else []
    notes += [INTEGRATED_NOTE] if gpu.integrated else []
    return GpuFinding(
        "NVIDIA",
        model,
        gpu.memory_bytes,
        gpu.uuid,
        answer.driver_version,
        gpu.reason,
        gpu.address,
        "nvidia",
        shared_memory_bytes=_machine_bytes(source) if gpu.integrated else None,
        parent=gpu.parent,
        note="; ".join(notes),
        source="NVML",
        compute_capability=gpu.compute_capability,
    )


def _machine_bytes(source: Source) -> Optional[int]:
    """All of the machine's memory, which an integrated GPU can use."""
    try:
        memory = main_memory(source)
    except (SourceError, OSError):
        return None
    return memory.total if memory else None


def _from_pci(
    source: Source, device: PciDevice, version: str, reason_unlisted: str, may_read_proc: bool = False
) -> GpuFinding:
    """A finding from PCI and /proc. A driver that has just crashed or hung is not accessed again."""
    reason = reasons.driver_reason(device.driver, _DRIVER) or reason_unlisted
    if device.asleep and not reason:
        reason = trouble_with(source, NVIDIA_CONTROL)
    model = ""
    if may_read_proc and device.driver == "nvidia" and not device.asleep:
        model = model_in_proc(source.read_text(f"{NVIDIA_PROC}/gpus/{device.address}/information"))
    maker, listed = maker_and_model(source, device) if not model else ("NVIDIA", model)
    return GpuFinding(
        maker,
        listed,
        driver_version=version if device.driver == "nvidia" else "",
        reason=reason,
        pci_address=device.address,
        driver=device.driver,
        asleep=device.asleep,
        source=f"PCI, {NVIDIA_PROC}" if version else "PCI",
    )


def kernel_module_version(text: Optional[str]) -> str:
    """`NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar …` → 550.54.15; empty for anything else."""
    match = _VERSION.search((text or "")[:_LONGEST_VERSION_LINE])
    return match[1][:64] if match else ""


def model_in_proc(text: Optional[str]) -> str:
    """`Model: 		 NVIDIA A100-SXM4-80GB`; empty where the driver does not know ("Unknown")."""
    match = _MODEL.search(text or "")
    return match[1] if match and match[1] != "Unknown" else ""
