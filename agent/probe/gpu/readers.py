"""Which reader speaks for which maker's GPUs: the one list. A reader is imported when there is something to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.probe.gpu.finding import GpuFinding
from agent.probe.gpu.pci import PciDevice, vendor_name
from agent.probe.source import Source

__all__ = ["READERS", "Reader", "unread"]

ReadFunction = Callable[[Source, Sequence[PciDevice]], list[GpuFinding]]


class Reader(NamedTuple):
    """`traces` are paths whose presence calls the reader also where no PCI device of the maker is seen."""

    vendor: int
    traces: tuple[str, ...]
    load: Callable[[], ReadFunction]


# To add a maker: a file beside this one, a loader that imports it, a line in this list.
READERS: tuple[Reader, ...] = ()


def unread(device: PciDevice) -> GpuFinding:
    """What PCI alone tells of a device that has no reader."""
    vendor = vendor_name(device.vendor)
    model = f"{device.vendor:04x}:{device.device:04x}"
    source = f"{device.folder}/class"
    if device.display_only:
        return GpuFinding(
            vendor, model, usable=False, reason="display only", pci_address=device.address, display=True, source=source
        )
    reason = "no kernel driver is bound to it" if not device.driver else "this version cannot ask it what it can do"
    return GpuFinding(vendor, model, usable=False, reason=reason, pci_address=device.address, source=source)
