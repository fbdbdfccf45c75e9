"""The list of readers and the makers whose GPUs they read. A reader is imported only if there is a GPU for it.

A reader is a module with `read(source, devices) -> GpuRead`. It gets its maker's GPUs on the PCI bus, which may be
none (`nvidia_is_here`), and returns a finding for each, or several for a partitioned GPU. It reads only through
`source`, so that it can be replayed. It never raises because of the machine's state: that becomes a `reason`.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.probe.gpu import off_pci, pci, reasons
from agent.probe.gpu.device_files import nvidia_is_here
from agent.probe.gpu.finding import GpuFinding, GpuRead
from agent.probe.gpu.pci import PciDevice, Role
from agent.probe.source import Source

__all__ = ["read_all"]


def read_all(source: Source, devices: Sequence[PciDevice]) -> GpuRead:
    """All GPUs, by PCI address: those of the readers, and the others from PCI data alone."""
    findings: list[GpuFinding] = []
    failures = []
    gpus = [device for device in devices if device.role == Role.GPU]
    for vendor in (pci.NVIDIA, pci.AMD, pci.INTEL):
        own = [device for device in gpus if device.vendor == vendor]
        result = _read(source, vendor, own)
        findings.extend(result.findings)
        failures.extend(result.failures)
    findings.extend(_unread(source, device) for device in gpus if device.vendor not in (pci.NVIDIA, pci.AMD, pci.INTEL))
    findings.extend(off_pci.read(source, findings))
    findings.sort(key=lambda finding: finding.pci_address)
    return GpuRead(findings, failures)


def _read(source: Source, vendor: int, own: Sequence[PciDevice]) -> GpuRead:
    if vendor == pci.NVIDIA and (own or nvidia_is_here(source)):
        from agent.probe.gpu import nvidia

        return nvidia.read(source, own)
    if vendor == pci.AMD and own:
        from agent.probe.gpu import amd

        return amd.read(source, own)
    if vendor == pci.INTEL and own:
        from agent.probe.gpu import intel

        return intel.read(source, own)
    return GpuRead([], [])


def _unread(source: Source, device: PciDevice) -> GpuFinding:
    """A finding from PCI data alone, for a device without a reader."""
    maker, model = pci.maker_and_model(source, device)
    return GpuFinding(
        maker,
        model,
        reason=reasons.UNSUPPORTED,
        pci_address=device.address,
        driver=device.driver,
        asleep=device.asleep,
        source="PCI",
    )
