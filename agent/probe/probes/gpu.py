"""GPUs and what they can do, each with `usable` and `reason`: never silently none, never silently usable."""

from __future__ import annotations

from agent.probe.gpu.finding import GpuFinding
from agent.probe.gpu.pci import gpu_devices
from agent.probe.gpu.readers import READERS, unread
from agent.probe.options import ProbeOptions
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source

__all__ = ["GpuProbe"]


class GpuProbe:
    """Asked hourly: looking more often could keep an idle GPU awake."""

    name = "gpu"
    cadence_seconds = 3600.0
    deadline_seconds = 30.0

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        devices = gpu_devices(source)
        findings: list[GpuFinding] = []
        covered: set[str] = set()
        for reader in READERS:
            own = [device for device in devices if device.vendor == reader.vendor and not device.display_only]
            if own or any(source.read_text(trace) is not None or source.list_dir(trace) for trace in reader.traces):
                findings.extend(reader.load()(source, own))
                covered.update(device.address for device in own)
        findings.extend(unread(device) for device in devices if device.address not in covered)
        findings.sort(key=lambda finding: finding.pci_address)
        return _readings(findings), []


def _readings(findings: list[GpuFinding]) -> list[Reading]:
    told_by = ", ".join(dict.fromkeys(finding.source for finding in findings if finding.source))
    told_by = told_by or "/sys/bus/pci/devices"
    gpus = [finding for finding in findings if not finding.display]
    unusable = [finding for finding in gpus if not finding.usable]
    limited_by = None
    if unusable:
        limited_by = f"{len(unusable)} of {len(gpus)} not usable: " + "; ".join(
            dict.fromkeys(finding.reason for finding in unusable)
        )
    readings = [
        Reading("gpus", [finding.gpu_fields() for finding in gpus], "", told_by, limited_by),
        Reading("gpu_enabled", any(finding.usable for finding in gpus), "", told_by, limited_by),
    ]
    details = [
        {"pci_address": item.pci_address, "model": item.model, "asleep": item.asleep} for item in gpus if item.asleep
    ]
    if details:
        readings.append(Reading("gpus_asleep", details, "", told_by, note="left asleep"))
    displays = [f"{finding.vendor} {finding.model}" for finding in findings if finding.display]
    if displays:
        readings.append(Reading("display_adapters", displays, "", told_by, note="drives a screen, does not compute"))
    return readings
