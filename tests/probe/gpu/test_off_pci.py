"""GPUs on no PCI bus leave a trace: told as not usable, with the reason, and never twice."""

from __future__ import annotations

from typing import Any

import pytest

from agent.probe.options import ProbeOptions
from agent.probe.probes.gpu import GpuProbe
from agent.probe.recording import RecordingSource

LINUX = 'ask uname = ["Linux", "h", "6.9", "v", "aarch64"]\ndir /sys/bus = ["platform"]\n'


def node(driver: str, place: str = "206400000.gpu", compatible: str = "", number: int = 128) -> str:
    folder = f"/sys/class/drm/renderD{number}/device"
    text = f"link {folder} = ../../../{place}\nlink {folder}/driver = ../../../bus/platform/drivers/{driver}\n"
    text += f'dir /sys/class/drm = ["renderD{number}"]\n'
    return text + (f"file {folder}/uevent\n|DRIVER={driver}\n|OF_COMPATIBLE_0={compatible}\n" if compatible else "")


def gpus(text: str) -> list[dict[str, Any]]:
    readings, _ = GpuProbe().read(RecordingSource(LINUX + text), ProbeOptions("/"))
    told: list[dict[str, Any]] = next(reading.value for reading in readings if reading.name == "gpus")
    return told


@pytest.mark.parametrize(
    ("text", "vendor", "model"),
    [
        (node("asahi", compatible="apple,agx-g13g"), "Apple", "AGX (apple,agx-g13g)"),
        (node("panthor", "fb000000.gpu", "arm,mali-valhall-csf"), "ARM", "Mali (arm,mali-valhall-csf)"),
        (node("msm", "5000000.gpu"), "Qualcomm", "Adreno"),
        (node("v3d", "1002000000.v3d", "brcm,2712-v3d"), "Broadcom", "VideoCore (brcm,2712-v3d)"),
        (node("new-driver", "1.gpu", "maker,gpu-7"), "maker", "(maker,gpu-7)"),
        (node("new-driver", "1.gpu"), "", "1.gpu"),
    ],
)
def test_a_render_node_off_pci_is_a_gpu_that_cannot_be_asked(text: str, vendor: str, model: str) -> None:
    (told,) = gpus(text)
    assert (told["vendor"], told["model"], told["usable"]) == (vendor, model, False)
    assert told["reason"].startswith("unsupported: ")


@pytest.mark.parametrize(
    "text",
    [
        node("vgem", "vgem"),
        node("virtio_gpu", "virtio3"),
        node("evdi", "evdi.0"),
        node("nvidia", "0000:01:00.0"),  # its PCI device tells of it
        node("amdgpu", "10000:e1:00.0"),
        'dir /sys/class/drm = ["card0", "card0-HDMI-A-1", "version"]\n',
        "",
    ],
)
def test_what_draws_only_or_is_on_pci_leaves_no_trace_here(text: str) -> None:
    assert gpus(text) == []


def test_a_jetson_without_nvml_is_known_by_its_tree_and_its_files() -> None:
    tree = "file /proc/device-tree/compatible = nvidia,p2972-0000␀nvidia,tegra194␀\n"
    (told,) = gpus(tree + 'ask access /dev/nvhost-gpu = "yes"\n')
    assert (told["vendor"], told["model"], told["usable"]) == ("NVIDIA", "Tegra", False)
    assert gpus(tree) == []
    assert gpus('ask access /dev/nvhost-gpu = "yes"\n') == []


def test_windows_linux_lends_a_gpu_through_a_file() -> None:
    (told,) = gpus('ask access /dev/dxg = "yes"\n')
    assert told["vendor"] == "Microsoft"
    # with NVIDIA's library in its place that one is told, and nothing beside it
    wsl = 'ask access /usr/lib/wsl/lib/libnvidia-ml.so.1 = "yes"\nask nvml = {"outcome": "not-installed"}\n'
    (told,) = gpus('ask access /dev/dxg = "yes"\n' + wsl)
    assert told["vendor"] == "NVIDIA"
