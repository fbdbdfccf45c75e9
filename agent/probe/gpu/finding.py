"""One GPU as a reader found it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["GpuFinding"]


class GpuFinding(NamedTuple):
    """`memory_gb` is in 10⁹ bytes, 0 when unknown or shared with the machine. `reason` says why it is not usable.

    `display` marks an adapter that only drives a screen: it is told, and is no compute GPU. `asleep` marks one that
    was left asleep: its details are what can be known without waking it. `source` names what told all this.
    """

    vendor: str = ""
    model: str = ""
    memory_gb: float = 0.0
    uuid: str = ""
    driver_version: str = ""
    usable: bool = False
    reason: str = ""
    pci_address: str = ""
    display: bool = False
    asleep: bool = False
    source: str = ""

    def gpu_fields(self) -> dict[str, Any]:
        """The fields of the registry's `Gpu` record."""
        return {
            "vendor": self.vendor,
            "model": self.model,
            "memory_gb": self.memory_gb,
            "uuid": self.uuid,
            "driver_version": self.driver_version,
            "usable": self.usable,
            "reason": self.reason,
        }
