"""What was found, held against what can be: what fails is an error with the raw value, never a capability.

Here: ranges, text, duplicates. The limits are the registry's own, so that what passes here is accepted there.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.probe.gpu.finding import GpuFinding, GpuRead
from agent.probe.gpu.reasons import MOST_CHARACTERS
from agent.probe.reading import Failure
from registry_core.errors import ValidationError
from registry_core.models import limits

__all__ = ["believable"]

_TEXTS = ("vendor", "model", "uuid", "driver_version")


def believable(findings: Sequence[GpuFinding]) -> GpuRead:
    """The findings that can be so, changed where only a part cannot; and what was wrong with the others."""
    if len(findings) > limits.MAX_GPUS:
        rule = f"more GPUs than can be: at most {limits.MAX_GPUS}; none is offered"
        return GpuRead([], [Failure("gpu", rule, "gpus", len(findings))])
    failures: list[Failure] = []
    kept: list[GpuFinding] = []
    seen: set[str] = set()
    for finding in findings:
        checked = _text_checked(_memory_checked(finding, failures), failures)
        twice = _names(checked) & seen
        if twice:
            failures.append(Failure("gpu", "two GPUs of the same name: the second is left out", "gpus", min(twice)))
            continue
        seen |= _names(checked)
        kept.append(checked)
    return GpuRead(kept, failures)


def _names(finding: GpuFinding) -> set[str]:
    """What no two GPUs share. MIG instances sit at their parent's address."""
    names = {finding.uuid} if finding.uuid else set()
    if finding.pci_address and not finding.parent:
        names.add(finding.pci_address)
    return names


def _memory_checked(finding: GpuFinding, failures: list[Failure]) -> GpuFinding:
    """A driver that says nonsense about the memory is not to be trusted with work."""
    memory, shared = finding.memory_bytes, finding.shared_memory_bytes
    most_bytes = limits.MAX_GPU_MEMORY_GB * 1e9
    if shared is not None and not 0 <= shared <= limits.MAX_MEMORY_GB * 1e9:
        failures.append(Failure("gpu", f"memory shared with the GPU {finding.pci_address}: cannot be", "gpus", shared))
        finding = finding._replace(shared_memory_bytes=None)
    if memory is None or 0 <= memory <= most_bytes:
        return finding
    where = finding.pci_address or finding.uuid
    failures.append(Failure("gpu", f"memory of the GPU {where} in bytes: cannot be", "gpus", memory))
    reason = finding.reason or "not-believable: its driver claims an amount of memory that cannot be"
    return finding._replace(memory_bytes=None, reason=reason)


def _text_checked(finding: GpuFinding, failures: list[Failure]) -> GpuFinding:
    for name in _TEXTS:
        value = getattr(finding, name).strip()
        try:
            limits.displayable(name, value, f"gpu.{name}")
        except ValidationError as error:
            failures.append(
                Failure("gpu", f"{name} of the GPU {finding.pci_address}: {error.rule}", "gpus", value[:200])
            )
            value = ""
        finding = finding._replace(**{name: value})
    reason = "".join(character if character.isprintable() else " " for character in finding.reason)
    return finding._replace(reason=reason[:MOST_CHARACTERS].strip())
