"""GPUs that are not on a PCI bus: those in the chips of boards, phones and Apple's machines, and those of WSL.

No reader can query them; each trace is reported, so that no GPU is silently missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.probe.gpu.device_files import access
from agent.probe.gpu.finding import GpuFinding
from agent.probe.gpu.reasons import OFF_PCI
from agent.probe.source import Source

__all__ = ["read"]

_DRM = "/sys/class/drm"
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# Kernel driver of a render node → maker and name of its GPUs
_DRIVERS = {
    "asahi": ("Apple", "AGX"), "panfrost": ("ARM", "Mali"), "panthor": ("ARM", "Mali"), "lima": ("ARM", "Mali"),
    "mali": ("ARM", "Mali"), "bifrost": ("ARM", "Mali"), "msm": ("Qualcomm", "Adreno"),
    "msm_dpu": ("Qualcomm", "Adreno"), "msm_gpu": ("Qualcomm", "Adreno"), "adreno": ("Qualcomm", "Adreno"),
    "v3d": ("Broadcom", "VideoCore"), "vc4": ("Broadcom", "VideoCore"), "etnaviv": ("Vivante", ""),
    "etnaviv-gpu": ("Vivante", ""), "powervr": ("Imagination", "PowerVR"), "pvrsrvkm": ("Imagination", "PowerVR"),
    "nouveau": ("NVIDIA", "Tegra"), "tegra": ("NVIDIA", "Tegra"), "tegra-host1x": ("NVIDIA", "Tegra"),
    "drm": ("NVIDIA", "Tegra"), "nvgpu": ("NVIDIA", "Tegra"), "gk20a": ("NVIDIA", "Tegra"),
}  # fmt: skip
# Display devices of hypervisors, USB and tests: they do not compute
_ONLY_DRAW = ("virtio_gpu", "virtio-gpu", "vgem", "vkms", "evdi", "udl", "gud", "simple-framebuffer", "hyperv_drm")
_TEGRA_FILES = ("/dev/nvhost-gpu", "/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-ctrl-gpu")
_WINDOWS_GPU = "/dev/dxg"


def read(source: Source, found: Sequence[GpuFinding]) -> list[GpuFinding]:
    """One finding for each GPU that only leaves a trace. `found` is what the readers have reported."""
    makers = {finding.vendor for finding in found}
    traces = [finding for finding in _render_nodes(source) if finding.vendor not in makers]
    if not traces and "NVIDIA" not in makers and _is_tegra(source):
        traces = [GpuFinding("NVIDIA", "Tegra", reason=OFF_PCI, source="/proc/device-tree/compatible")]
    if not traces and not found and access(source, _WINDOWS_GPU) != "missing":
        traces = [GpuFinding("Microsoft", "GPU of Windows", reason=OFF_PCI, driver="dxgkrnl", source=_WINDOWS_GPU)]
    return traces


def _render_nodes(source: Source) -> list[GpuFinding]:
    findings = []
    for node in source.list_dir(_DRM):
        if not node.startswith("renderD"):
            continue
        folder = f"{_DRM}/{node}/device"
        place = (source.read_link(folder) or "").rpartition("/")[2]
        driver = (source.read_link(f"{folder}/driver") or "").rpartition("/")[2]
        if _PCI_ADDRESS.fullmatch(place) or driver in _ONLY_DRAW or place.startswith("virtio"):
            continue  # reported as a PCI device
        named = _compatible(source.read_text(f"{folder}/uevent") or "")
        maker, family = _DRIVERS.get(driver, ("", ""))
        model = " ".join(part for part in (family, f"({named})" if named else "") if part)
        findings.append(GpuFinding(maker or named.partition(",")[0], model or place, reason=OFF_PCI, driver=driver,
                                   source=f"{_DRM}/{node}"))  # fmt: skip
    return findings


def _compatible(uevent: str) -> str:
    """The device's name in the device tree: `apple,agx-g13g`."""
    lines = [line.partition("=")[2].strip() for line in uevent.splitlines() if line.startswith("OF_COMPATIBLE_0=")]
    return lines[0] if lines else ""


def _is_tegra(source: Source) -> bool:
    """True for a Jetson board, whose driver has its own device files and usually no render node."""
    compatible = source.read_line("/proc/device-tree/compatible")
    return "nvidia,tegra" in compatible and any(access(source, path) != "missing" for path in _TEGRA_FILES)
