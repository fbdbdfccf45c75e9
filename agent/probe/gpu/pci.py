"""PCI devices whose class may be a GPU: their driver, whether they only draw, and whether they are asleep.

Reading these data does not wake a sleeping device: the kernel stores identity, class and power state. The readers use
the makers' drivers; `pci_ids` has the names.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from agent.probe.source import Source, SourceError

__all__ = ["PciDevice", "Role", "gpu_devices", "maker_and_model", "vendor_name"]

FOLDER = "/sys/bus/pci/devices"

AMD, INTEL, NVIDIA = 0x1002, 0x8086, 0x10DE

# Class and subclass: VGA, 3D, other display controller; co-processor; and all of class 12, processing accelerators.
# The default list of Node Feature Discovery (source/pci/pci.go).
_DISPLAY_CLASSES = (0x0300, 0x0302, 0x0380)
_CO_PROCESSOR = 0x0B40
_ACCELERATORS = 0x12

_VENDORS = {
    AMD: "AMD", INTEL: "Intel", NVIDIA: "NVIDIA", 0x1DA3: "Habana", 0x1E52: "Tenstorrent", 0x1AE0: "Google",
    0x1D0F: "Amazon", 0x19E5: "Huawei", 0x1E3E: "Iluvatar", 0x1ED5: "Moore Threads", 0x10EE: "Xilinx",
    0x1A03: "ASPEED", 0x102B: "Matrox", 0x1234: "QEMU", 0x1AF4: "virtio", 0x15AD: "VMware", 0x80EE: "VirtualBox",
    0x1414: "Microsoft", 0x1B36: "QEMU", 0x1013: "Cirrus Logic", 0x5853: "Xen", 0x126F: "Silicon Motion",
    0x18CA: "XGI", 0x1AB8: "Parallels",
}  # fmt: skip

# Management chips of servers and displays of hypervisors: they draw, but do not compute
_ONLY_DRAW = frozenset(
    (0x1A03, 0x102B, 0x1234, 0x1AF4, 0x15AD, 0x80EE, 0x1414, 0x1B36, 0x1013, 0x5853, 0x126F, 0x18CA, 0x1AB8, 0x1D0F)
)
# The same, from vendors that also make GPUs or accelerators: Huawei's iBMC, and ATI's server chips
_DEVICES_ONLY_DRAW = frozenset(((0x19E5, 0x1711), (AMD, 0x515E), (AMD, 0x5969), (AMD, 0x4752), (AMD, 0x4C52)))
_GPU_DRIVERS = ("amdgpu", "i915", "nvidia", "xe")


class Role:
    """The purpose of a device: only the first one is a GPU."""

    GPU = "gpu"
    DISPLAY = "display"
    ACCELERATOR = "accelerator"


class PciDevice(NamedTuple):
    """One device. `driver` is the bound kernel driver, empty for none; `asleep`: powered down until used."""

    address: str
    pci_class: int
    vendor: int
    device: int
    driver: str = ""
    asleep: bool = False

    @property
    def folder(self) -> str:
        """Its folder in sysfs."""
        return f"{FOLDER}/{self.address}"

    @property
    def role(self) -> str:
        """A `Role`. Co-processors and accelerators are GPUs if their maker or driver is that of a GPU."""
        if self.pci_class >> 8 in _DISPLAY_CLASSES:
            only_draws = self.vendor in _ONLY_DRAW or (self.vendor, self.device) in _DEVICES_ONLY_DRAW
            return Role.DISPLAY if only_draws else Role.GPU
        if self.vendor in (AMD, NVIDIA) or self.driver in _GPU_DRIVERS:
            return Role.GPU
        return Role.ACCELERATOR  # QuickAssist, an NPU, an FPGA, Gaudi


def vendor_name(vendor: int) -> str:
    """The maker's name, or its PCI number if the name is unknown."""
    return _VENDORS.get(vendor, f"vendor 0x{vendor:04x}")


def maker_and_model(source: Source, device: PciDevice) -> tuple[str, str]:
    """Names from the host's pci.ids if it has them, else the PCI numbers."""
    from agent.probe.gpu.pci_ids import short_name

    maker = vendor_name(device.vendor)
    try:
        names = source.ask("pci_name", f"{device.vendor:04x}:{device.device:04x}")
    except (SourceError, OSError):
        names = None
    if not isinstance(names, list) or len(names) != 2 or not all(isinstance(name, str) for name in names):
        names = ["", ""]
    if device.vendor not in _VENDORS and names[0]:
        maker = names[0]
    return maker, short_name(names[1]) or f"vendor 0x{device.vendor:04x} device 0x{device.device:04x}"


def gpu_devices(source: Source) -> list[PciDevice]:
    """All devices of the classes that include GPUs, by PCI address; empty if no PCI bus is visible."""
    found = []
    for address in source.list_dir(FOLDER):
        folder = f"{FOLDER}/{address}"
        pci_class = _number(source.read_line(f"{folder}/class"))
        if pci_class is None or not _may_be_gpu(pci_class):
            continue
        vendor, device = _number(source.read_line(f"{folder}/vendor")), _number(source.read_line(f"{folder}/device"))
        if vendor is None or device is None:
            continue
        driver = (source.read_link(f"{folder}/driver") or "").rpartition("/")[2]
        if driver not in _GPU_DRIVERS and source.read_link(f"{folder}/physfn") is not None:
            continue  # a virtual function for guests: part of another GPU and not a GPU of its own
        asleep = source.read_line(f"{folder}/power/runtime_status") in ("suspended", "suspending")
        found.append(PciDevice(address, pci_class, vendor, device, driver, asleep))
    return found


def _may_be_gpu(pci_class: int) -> bool:
    return pci_class >> 8 in (*_DISPLAY_CLASSES, _CO_PROCESSOR) or pci_class >> 16 == _ACCELERATORS


def _number(text: str) -> Optional[int]:
    """sysfs writes these as 0x and hexadecimal digits."""
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if 0 <= number <= 0xFFFFFF else None
