"""GPUs and their properties, each with `usable` and `reason`, so that no GPU is silently missing or unusable."""

from __future__ import annotations

from collections.abc import Sequence

from agent.probe.gpu.finding import GpuFinding, GpuRead
from agent.probe.gpu.pci import PciDevice, Role, gpu_devices, maker_and_model
from agent.probe.gpu.readers import read_all
from agent.probe.options import ProbeOptions
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source
from agent.probe.visibility import NO_SYS, is_sys_hidden

__all__ = ["GpuProbe"]

_PCI = "/sys/bus/pci/devices"
_NVIDIA_MODULE = "/proc/driver/nvidia/version"


class GpuProbe:
    """Runs hourly, and when `fingerprint` changes: more frequent queries could keep an idle GPU awake.

    It remembers the last finding of each GPU, to use it while that GPU sleeps.
    """

    name = "gpu"
    cadence_seconds = 3600.0
    deadline_seconds = 35.0  # NVML may use 25 of them, and 2 more until its process is killed

    def __init__(self) -> None:
        self._awake: dict[str, list[GpuFinding]] = {}

    def read(self, source: Source, _options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        devices = gpu_devices(source)
        read = read_all(source, devices)
        checked = GpuRead([], [])
        if read.findings or self._awake:
            from agent.probe.gpu.plausibility import believable

            checked = believable(self._recalled(read.findings))
            self._remember(checked.findings)
        failures = [*read.failures, *checked.failures]
        if is_sys_hidden(source):
            failures.append(Failure(self.name, f"{NO_SYS}: GPUs on a bus cannot be detected", "gpus"))
            if not checked.findings:
                return [Reading("gpus", None, note=NO_SYS), Reading("gpu_enabled", None, note=NO_SYS)], failures
        return _readings(source, devices, checked.findings), failures

    def fingerprint(self, source: Source) -> str:
        """A text that changes when GPUs must be queried again: the devices, their drivers, the NVIDIA module, and
        whether a GPU woke up that was asleep at every query. Starts no process and wakes no GPU."""
        try:
            devices = gpu_devices(source)
            lines = [source.read_line(_NVIDIA_MODULE)]
        except PermissionError:
            return ""
        for device in devices:
            asleep = device.asleep and device.address not in self._awake
            lines.append(f"{device.address} {device.vendor:04x}:{device.device:04x} {device.driver} {asleep}")
        return "\n".join(lines)

    def _remember(self, findings: Sequence[GpuFinding]) -> None:
        awake: dict[str, list[GpuFinding]] = {}
        for finding in findings:
            if not finding.asleep and finding.pci_address:
                awake.setdefault(finding.pci_address, []).append(finding)
        sleepers = {finding.pci_address for finding in findings if finding.asleep}
        self._awake = {**{address: kept for address, kept in self._awake.items() if address in sleepers}, **awake}

    def _recalled(self, findings: Sequence[GpuFinding]) -> list[GpuFinding]:
        """Replace sleeping GPUs by their last finding while awake, unless the driver changed or they are not usable."""
        recalled: list[GpuFinding] = []
        for finding in findings:
            known = self._awake.get(finding.pci_address, []) if finding.asleep and finding.usable else []
            if known and all((item.driver, item.driver_version) == _driver(finding) for item in known):
                recalled.extend(item._replace(asleep=True, note=_ASLEEP_KNOWN) for item in known)
            elif finding.asleep:
                recalled.append(finding._replace(note=_ASLEEP))
            else:
                recalled.append(finding)
        return recalled


_ASLEEP = "left asleep: its memory is reported once it has been probed while awake"
_ASLEEP_KNOWN = "left asleep: reported as it was when last awake"


def _driver(finding: GpuFinding) -> tuple[str, str]:
    return finding.driver, finding.driver_version


def _readings(source: Source, devices: Sequence[PciDevice], gpus: Sequence[GpuFinding]) -> list[Reading]:
    read_from = ", ".join(dict.fromkeys(finding.source for finding in gpus if finding.source)) or _PCI
    unusable = [finding for finding in gpus if not finding.usable]
    limited_by = None
    if unusable:
        reasons = "; ".join(dict.fromkeys(finding.reason for finding in unusable))
        limited_by = f"{len(unusable)} of {len(gpus)} not usable: {reasons}"
    readings = [
        Reading("gpus", [finding.gpu_fields() for finding in gpus], "", read_from, limited_by),
        Reading("gpu_enabled", any(finding.usable for finding in gpus), "", read_from, limited_by),
    ]
    if gpus:
        readings.append(Reading("gpu_details", [finding.details() for finding in gpus], "", read_from))
    for name, role, note in (
        ("display_adapters", Role.DISPLAY, "drives a screen, does not compute"),
        ("accelerators", Role.ACCELERATOR, "computes, but is not a GPU: not offered"),
    ):
        others = [_named(source, device) for device in devices if device.role == role]
        if others:
            readings.append(Reading(name, others, "", _PCI, note=note))
    return readings


def _named(source: Source, device: PciDevice) -> dict[str, str]:
    vendor, model = maker_and_model(source, device)
    return {"vendor": vendor, "model": model, "pci_address": device.address, "driver": device.driver}
