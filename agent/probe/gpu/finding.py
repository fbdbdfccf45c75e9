"""One GPU as a reader found it, before anybody asked whether it can be believed (`plausibility`)."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from agent.probe.reading import Failure

__all__ = ["INTEGRATED_NOTE", "GpuFinding", "GpuRead"]

MOST_CARVED_OUT_BYTES = 4_000_000_000  # firmware sets so much aside for an integrated GPU; cards have more
INTEGRATED_NOTE = "integrated: it uses the machine's memory"


class GpuFinding(NamedTuple):
    """One GPU, or one MIG instance. `reason` says why it is not usable and is empty when it is.

    `memory_bytes` is memory that belongs to the GPU alone, None when not known (an integrated GPU has none).
    `shared_memory_bytes` is how much of the machine's own memory the driver may lend it: not counted as the GPU's,
    because it is in the machine's `memory_gb` already. `parent` is the UUID of the GPU that a MIG instance is part of.
    `compute_capability` is NVIDIA's (8.6) or ROCm's target (gfx942).
    `asleep`: it was left asleep, and this is what can be known without waking it. `note` is a sentence for people,
    `source` names what told all this.
    """

    vendor: str = ""
    model: str = ""
    memory_bytes: Optional[int] = None
    uuid: str = ""
    driver_version: str = ""
    reason: str = ""
    pci_address: str = ""
    driver: str = ""
    shared_memory_bytes: Optional[int] = None
    parent: str = ""
    asleep: bool = False
    note: str = ""
    source: str = ""
    compute_capability: str = ""

    @property
    def usable(self) -> bool:
        """Whether work can be given to it."""
        return not self.reason

    @property
    def is_unified(self) -> bool:
        """Whether it works in the machine's memory. A card with memory of its own may reach there, over its bus."""
        return INTEGRATED_NOTE in self.note or (self.memory_bytes or 0) <= MOST_CARVED_OUT_BYTES

    def gpu_fields(self) -> dict[str, Any]:
        """The fields of the registry's `Gpu` record; `shared_memory_gb` where the GPU works in the machine's memory."""
        shared = gigabytes(self.shared_memory_bytes) if self.is_unified else None
        return {
            "vendor": self.vendor,
            "model": self.model,
            "memory_gb": gigabytes(self.memory_bytes) or 0.0,
            "uuid": self.uuid,
            "driver_version": self.driver_version,
            "usable": self.usable,
            "reason": self.reason,
            **({"shared_memory_gb": shared} if shared else {}),
        }

    def details(self) -> dict[str, Any]:
        """What is told beside that: where it sits, its driver, and the rest where there is something to say."""
        extras = {
            "shared_memory_gb": gigabytes(self.shared_memory_bytes),
            "compute_capability": self.compute_capability,
            "parent": self.parent,
            "asleep": self.asleep,
            "note": self.note,
        }
        told = {name: value for name, value in extras.items() if value}
        return {"pci_address": self.pci_address, "driver": self.driver, **told}


class GpuRead(NamedTuple):
    """What a reader hands back: GPUs, and what it was told that cannot be so."""

    findings: list[GpuFinding]
    failures: list[Failure]


def gigabytes(size_bytes: Optional[int]) -> Optional[float]:
    """Bytes as GB (10⁹), to the megabyte."""
    return None if size_bytes is None else round(size_bytes / 1e9, 3)
