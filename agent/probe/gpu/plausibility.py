"""Plausibility checks of GPUs: ranges, texts and duplicates. A value that fails becomes an error with the raw value.

The limits are the registry's, so that it accepts everything that passes here.
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
    """The plausible findings, corrected if only a part is implausible; and a failure for each problem."""
    if len(findings) > limits.MAX_GPUS:
        rule = f"more GPUs than possible: at most {limits.MAX_GPUS}; none is offered"
        return GpuRead([], [Failure("gpu", rule, "gpus", len(findings))])
    failures: list[Failure] = []
    kept: list[GpuFinding] = []
    seen: set[str] = set()
    for finding in findings:
        checked = _text_checked(_memory_checked(finding, failures), failures)
        twice = _names(checked) & seen
        if twice:
            failures.append(
                Failure("gpu", "two GPUs with the same identifier: the second is left out", "gpus", min(twice))
            )
            continue
        seen |= _names(checked)
        kept.append(checked)
    return GpuRead(kept, failures)


def _names(finding: GpuFinding) -> set[str]:
    """The identifiers that must be unique. MIG instances have their parent's address."""
    names = {finding.uuid} if finding.uuid else set()
    if finding.pci_address and not finding.parent:
        names.add(finding.pci_address)
    return names


def _memory_checked(finding: GpuFinding, failures: list[Failure]) -> GpuFinding:
    """A GPU whose driver reports an impossible amount of memory is not usable."""
    memory, shared = finding.memory_bytes, finding.shared_memory_bytes
    most_bytes = limits.MAX_GPU_MEMORY_GB * 1e9
    if shared is not None and not 0 <= shared <= limits.MAX_MEMORY_GB * 1e9:
        failures.append(Failure("gpu", f"memory shared with the GPU {finding.pci_address}: impossible", "gpus", shared))
        finding = finding._replace(shared_memory_bytes=None)
    if memory is None or 0 <= memory <= most_bytes:
        return finding
    where = finding.pci_address or finding.uuid
    failures.append(Failure("gpu", f"memory of the GPU {where} in bytes: impossible", "gpus", memory))
    reason = finding.reason or "not-believable: its driver reports an impossible amount of memory"
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
