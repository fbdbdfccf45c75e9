"""PCI devices whose class may be a GPU, and which of them only drive a screen."""

from __future__ import annotations

from typing import NamedTuple, Optional

from agent.probe.source import Source

__all__ = ["DISPLAY_VENDORS", "PciDevice", "gpu_devices", "vendor_name"]

FOLDER = "/sys/bus/pci/devices"

# Base class and subclass: VGA, 3D, other display controller; co-processor; and all of base class 12, accelerators
_CLASSES = (0x0300, 0x0302, 0x0380, 0x0B40)
_ACCELERATORS = 0x12

_VENDORS = {0x10DE: "NVIDIA", 0x1002: "AMD", 0x8086: "Intel", 0x1DA3: "Habana", 0x1E52: "Tenstorrent",
            0x1AE0: "Google", 0x1D0F: "Amazon", 0x19E5: "Huawei", 0x1E3E: "Iluvatar", 0x1ED5: "Moore Threads",
            0x1A03: "ASPEED", 0x102B: "Matrox", 0x1234: "QEMU", 0x1AF4: "virtio", 0x15AD: "VMware",
            0x80EE: "VirtualBox", 0x1414: "Microsoft", 0x1B36: "QEMU", 0x1013: "Cirrus", 0x5853: "Xen"}  # fmt: skip

# Server management chips and hypervisors' screens: they draw, they do not compute
DISPLAY_VENDORS = frozenset((0x1A03, 0x102B, 0x1234, 0x1AF4, 0x15AD, 0x80EE, 0x1414, 0x1B36, 0x1013, 0x5853))
_DISPLAY_DEVICES = frozenset(((0x19E5, 0x1711),))  # Huawei's management chip; its other devices are accelerators


class PciDevice(NamedTuple):
    """One device. `driver` is the kernel driver bound to it, empty for none."""

    address: str
    pci_class: int
    vendor: int
    device: int
    driver: str

    @property
    def folder(self) -> str:
        """Its folder in sysfs."""
        return f"{FOLDER}/{self.address}"

    @property
    def display_only(self) -> bool:
        """A management chip's or a hypervisor's screen."""
        return self.vendor in DISPLAY_VENDORS or (self.vendor, self.device) in _DISPLAY_DEVICES


def vendor_name(vendor: int) -> str:
    """The maker's name, or its PCI number where we know none."""
    return _VENDORS.get(vendor, f"PCI vendor {vendor:04x}")


def gpu_devices(source: Source) -> list[PciDevice]:
    """Every device of a GPU's class, by PCI address. Reading these files does not wake a sleeping device."""
    found = []
    for address in source.list_dir(FOLDER):
        folder = f"{FOLDER}/{address}"
        pci_class = _number(source.read_line(f"{folder}/class"))
        if pci_class is None or not (pci_class >> 8 in _CLASSES or pci_class >> 16 == _ACCELERATORS):
            continue
        vendor, device = _number(source.read_line(f"{folder}/vendor")), _number(source.read_line(f"{folder}/device"))
        if vendor is None or device is None:
            continue
        driver = (source.read_link(f"{folder}/driver") or "").rpartition("/")[2]
        found.append(PciDevice(address, pci_class, vendor, device, driver))
    return found


def _number(text: str) -> Optional[int]:
    """sysfs writes these as 0x and hexadecimal digits."""
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if 0 <= number <= 0xFFFFFF else None
