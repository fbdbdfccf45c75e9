"""One GPU as a reader found it, before the plausibility checks (`plausibility`)."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from agent.probe.reading import Failure

__all__ = ["INTEGRATED_NOTE", "GpuFinding", "GpuRead"]

MOST_CARVED_OUT_BYTES = 4_000_000_000  # at most reserved by firmware for an integrated GPU; cards have more
INTEGRATED_NOTE = "integrated: it uses the machine's memory"


class GpuFinding(NamedTuple):
    """One GPU, or one MIG instance. `reason` states why it is not usable and is empty if it is usable.

    `memory_bytes` is the GPU's own memory, None if unknown (an integrated GPU has none). `shared_memory_bytes` is how
    much of the machine's memory the GPU may use: it is not counted as the GPU's, because the machine's `memory_gb`
    includes it. `parent` is the UUID of the GPU that contains a MIG instance.
    `compute_capability` is NVIDIA's (8.6) or ROCm's target (gfx942).
    `asleep`: it was not woken, and these are the data known without waking it. `note` is a sentence for users,
    `source` is where the data come from.
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
        """Whether work can use it."""
        return not self.reason

    @property
    def is_unified(self) -> bool:
        """Whether it uses the machine's memory. A card with its own memory can only access it over the bus."""
        return INTEGRATED_NOTE in self.note or (self.memory_bytes or 0) <= MOST_CARVED_OUT_BYTES

    def gpu_fields(self) -> dict[str, Any]:
        """The fields of the registry's `Gpu` record; `shared_memory_gb` if the GPU uses the machine's memory."""
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
        """Further fields: its PCI address and driver, and others if they are set."""
        extras = {
            "shared_memory_gb": gigabytes(self.shared_memory_bytes),
            "compute_capability": self.compute_capability,
            "parent": self.parent,
            "asleep": self.asleep,
            "note": self.note,
        }
        present = {name: value for name, value in extras.items() if value}
        return {"pci_address": self.pci_address, "driver": self.driver, **present}


class GpuRead(NamedTuple):
    """The result of a reader: GPUs, and implausible data as failures."""

    findings: list[GpuFinding]
    failures: list[Failure]


def gigabytes(size_bytes: Optional[int]) -> Optional[float]:
    """Bytes as GB (10⁹), rounded to a megabyte."""
    return None if size_bytes is None else round(size_bytes / 1e9, 3)
