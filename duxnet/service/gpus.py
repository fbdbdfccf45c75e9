"""Whether a machine has a GPU that the agent's unit must be able to open. What it is worth: `agent.probe`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["has_gpu"]

# Vendors whose drivers the probe asks through device files: NVIDIA, AMD, Intel.
_VENDORS = {"0x10de", "0x1002", "0x8086"}
# PCI classes: VGA, 3D, other display, co-processor; and all of 12, processing accelerators.
_CLASSES = ("0x0300", "0x0302", "0x0380", "0x0b40", "0x12")


def has_gpu(root: Path) -> bool:
    """True when a driver's device file or a GPU on the PCI bus is there. Reads below `root`."""
    if any((root / "dev" / name).exists() for name in ("nvidiactl", "kfd")):
        return True
    return any(_is_gpu(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_gpu(device: Path) -> bool:
    try:
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
        kind = (device / "class").read_text(encoding="ascii").strip()
    except OSError:  # unplugged while we looked
        return False
    return vendor in _VENDORS and kind.startswith(_CLASSES)
