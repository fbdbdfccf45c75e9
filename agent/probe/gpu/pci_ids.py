"""Names of PCI devices from the host's list (pci.ids), read only for a GPU that has no better name.

There is no list in this package, because it would soon be outdated.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Optional

__all__ = ["find_name", "look_up", "short_name"]

_PLACES = (
    "/usr/share/misc/pci.ids",  # Debian
    "/usr/share/hwdata/pci.ids",  # Fedora, Red Hat, Arch
    "/usr/share/pci.ids",
    "/var/lib/pciutils/pci.ids",  # update-pciids
)


def look_up(vendor_and_device: str) -> Optional[list[str]]:
    """`10de:20b0` → the names of vendor and device; the device's name is empty if only the vendor is listed."""
    vendor, _, device = vendor_and_device.lower().partition(":")
    for path in _PLACES:
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as lines:
                return find_name(lines, vendor, device)
        except OSError:
            continue
    return None


def find_name(lines: Iterable[str], vendor: str, device: str) -> Optional[list[str]]:
    """The same, from the lines of a pci.ids file: `vvvv  Name`, then a tab and `dddd  Name` for each of its devices."""
    vendor_name = ""
    for line in lines:
        if vendor_name:
            if line.startswith("\t" + device + " "):
                return [vendor_name, line[1 + len(device) :].strip()]
            if line[:1] not in ("\t", "#", "\n"):
                return [vendor_name, ""]
        elif line.startswith(vendor + " "):
            vendor_name = line[len(vendor) :].strip()
    return [vendor_name, ""] if vendor_name else None


def short_name(name: str) -> str:
    """The product name: `AD102 [GeForce RTX 4090]` → `GeForce RTX 4090`."""
    inside = name.rpartition("[")[2]
    return inside[:-1].strip() if name.endswith("]") and inside[:-1].strip() else name.strip()
