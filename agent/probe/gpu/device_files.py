"""The device files of GPUs: whether they exist, and whether this process may open them.

They are never opened, because that would wake a sleeping GPU.
"""

from __future__ import annotations

from agent.probe.gpu.reasons import node_reason
from agent.probe.source import Source, SourceError

__all__ = ["nvidia_is_here", "access", "render_node", "trouble_with"]

NVIDIA_PROC = "/proc/driver/nvidia"
NVIDIA_CONTROL = "/dev/nvidiactl"
NVIDIA_WSL = "/usr/lib/wsl/lib/libnvidia-ml.so.1"  # where WSL has it


def access(source: Source, path: str) -> str:
    """`yes` if this process may read and write the file, else `denied` or `missing`.

    A recording without an answer counts as `missing`.
    """
    try:
        answer = source.ask("access", path)
    except (SourceError, OSError):
        return "missing"
    return answer if answer in ("yes", "denied") else "missing"


def render_node(source: Source, pci_folder: str) -> str:
    """The path of a PCI device's render node, which programs use for computing; empty if there is none."""
    names = [name for name in source.list_dir(f"{pci_folder}/drm") if name.startswith("renderD")]
    return f"/dev/dri/{names[0]}" if names else ""


def trouble_with(source: Source, *paths: str) -> str:
    """The reason why the first unusable file cannot be used, empty if all can be used."""
    return next((reason for reason in (node_reason(path, access(source, path)) for path in paths) if reason), "")


def nvidia_is_here(source: Source) -> bool:
    """Signs of an NVIDIA GPU other than PCI: containers, WSL and Jetson boards may have no visible PCI device."""
    if source.read_text(f"{NVIDIA_PROC}/version") is not None:
        return True
    return any(access(source, path) != "missing" for path in (NVIDIA_CONTROL, NVIDIA_WSL))
