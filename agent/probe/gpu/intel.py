"""Intel's GPUs from sysfs, for both drivers: xe reports the memory of each tile, i915 only in Intel's own packages.

Reading sysfs loads no library and starts no process. A sleeping GPU is not woken: only its PCI data is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from agent.probe.gpu.amd import driver_version
from agent.probe.gpu.device_files import render_node, trouble_with
from agent.probe.gpu.finding import INTEGRATED_NOTE, GpuFinding, GpuRead
from agent.probe.gpu.pci import PciDevice, maker_and_model
from agent.probe.gpu.reasons import driver_reason
from agent.probe.source import Source

__all__ = ["read"]

_DRIVERS = ("xe", "i915")
_INTEGRATED = "00:02.0"  # the address of every integrated Intel GPU, on bus 0 of its domain


def read(source: Source, devices: Sequence[PciDevice]) -> GpuRead:
    """A finding for each device."""
    return GpuRead([_finding(source, device) for device in devices], [])


def _finding(source: Source, device: PciDevice) -> GpuFinding:
    maker, model = maker_and_model(source, device)
    reason = driver_reason(device.driver, _DRIVERS)
    finding = GpuFinding(maker, model, reason=reason, pci_address=device.address, driver=device.driver, source="PCI")
    if reason:
        return finding
    node = render_node(source, device.folder) or "/dev/dri/renderD*"
    finding = finding._replace(
        driver_version=driver_version(source, device.driver), reason=trouble_with(source, node)
    )  # fmt: skip
    if device.asleep:
        return finding._replace(asleep=True)
    if device.address.endswith(_INTEGRATED) and device.address.rpartition(":")[0].endswith(":00"):
        return finding._replace(note=INTEGRATED_NOTE, source=device.folder)
    memory, read_from = _memory(source, device)
    note = "" if memory is not None else f"this {device.driver} driver does not report its memory"
    return finding._replace(memory_bytes=memory, note=note, source=read_from or device.folder)


def _memory(source: Source, device: PciDevice) -> tuple[Optional[int], str]:
    """Bytes of video memory over all tiles, and the file with the figure."""
    tiles = [name for name in source.list_dir(device.folder) if name.startswith("tile") and name[4:].isdigit()]
    sizes = [source.read_int(f"{device.folder}/{tile}/physical_vram_size_bytes") for tile in tiles]
    known = [size for size in sizes if size is not None]
    if known:
        return sum(known), f"{device.folder}/tile*/physical_vram_size_bytes"
    for card in source.list_dir(f"{device.folder}/drm"):
        path = f"{device.folder}/drm/{card}/lmem_total_bytes"
        size = source.read_int(path)
        if size is not None:
            return size, path
    return None, ""
