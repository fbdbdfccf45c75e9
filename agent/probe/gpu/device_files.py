"""The files through which work reaches a GPU: whether they are here, and whether this process may open them.

They are never opened: that would wake a sleeping GPU.
"""

from __future__ import annotations

from agent.probe.gpu.reasons import node_reason
from agent.probe.source import Source, SourceError

__all__ = ["nvidia_is_here", "access", "render_node", "trouble_with"]

NVIDIA_PROC = "/proc/driver/nvidia"
NVIDIA_CONTROL = "/dev/nvidiactl"
NVIDIA_WSL = "/usr/lib/wsl/lib/libnvidia-ml.so.1"  # where Windows puts it into its Linux


def access(source: Source, path: str) -> str:
    """`yes` when this process may read and write the file, `denied`, or `missing`.

    A recording that holds no answer was made where the file is missing.
    """
    try:
        answer = source.ask("access", path)
    except (SourceError, OSError):
        return "missing"
    return answer if answer in ("yes", "denied") else "missing"


def render_node(source: Source, pci_folder: str) -> str:
    """The path of a PCI device's render node, through which programs without a screen reach it; empty for none."""
    names = [name for name in source.list_dir(f"{pci_folder}/drm") if name.startswith("renderD")]
    return f"/dev/dri/{names[0]}" if names else ""


def trouble_with(source: Source, *paths: str) -> str:
    """The reason of the first of these files that cannot be used, empty when all can."""
    return next((reason for reason in (node_reason(path, access(source, path)) for path in paths) if reason), "")


def nvidia_is_here(source: Source) -> bool:
    """Signs of an NVIDIA GPU beside PCI: containers, Windows' Linux (WSL) and Jetson boards may show no PCI device."""
    if source.read_text(f"{NVIDIA_PROC}/version") is not None:
        return True
    return any(access(source, path) != "missing" for path in (NVIDIA_CONTROL, NVIDIA_WSL))
