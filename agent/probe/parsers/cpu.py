"""Parsers of the kernel's files about CPUs: lists of numbers, /proc/cpuinfo."""

from __future__ import annotations

from typing import Optional

__all__ = ["cpu_list", "cpu_model", "cpuinfo_value"]

_HIGHEST_CPU = 65_535  # the maximum of a record; a higher number is an error in the file

# The keys of the processor's name, by architecture: x86, POWER, MIPS, LoongArch, RISC-V
_MODEL_KEYS = ("model name", "cpu model", "Model Name", "cpu", "uarch")

# ARM has only numbers: implementer → maker, and implementer → part → name, as in util-linux and LLVM.
_ARM_MAKERS = {0x41: "ARM", 0x42: "Broadcom", 0x43: "Cavium", 0x44: "DEC", 0x46: "Fujitsu", 0x48: "HiSilicon",
               0x4E: "NVIDIA", 0x50: "APM", 0x51: "Qualcomm", 0x53: "Samsung", 0x56: "Marvell", 0x61: "Apple",
               0x66: "Faraday", 0x69: "Intel", 0x6D: "Microsoft", 0x70: "Phytium", 0xC0: "Ampere"}  # fmt: skip
_ARM_PARTS = {
    0x41: {
        0xB36: "ARM1136", 0xB56: "ARM1156", 0xB76: "ARM1176", 0xC05: "Cortex-A5", 0xC07: "Cortex-A7",
        0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0D: "Cortex-A17", 0xC0E: "Cortex-A17", 0xC0F: "Cortex-A15",
        0xD01: "Cortex-A32", 0xD02: "Cortex-A34", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD06: "Cortex-A65", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
        0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE", 0xD40: "Neoverse-V1",
        0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD43: "Cortex-A65AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
        0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C",
        0xD4C: "Cortex-X1C", 0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD83: "Neoverse-V3AE", 0xD84: "Neoverse-V3", 0xD85: "Cortex-X925",
        0xD87: "Cortex-A725", 0xD88: "Cortex-A520AE", 0xD89: "Cortex-A720AE", 0xD8A: "C1-Nano", 0xD8B: "C1-Pro",
        0xD8C: "C1-Ultra", 0xD8E: "Neoverse-N3", 0xD8F: "Cortex-A320", 0xD90: "C1-Premium",
    },
    0x42: {0x00F: "Brahma-B15", 0x100: "Brahma-B53", 0x516: "ThunderX2"},
    0x43: {0x0A0: "ThunderX", 0x0A1: "ThunderX-88XX", 0x0A2: "ThunderX-81XX", 0x0A3: "ThunderX-83XX",
           0x0AF: "ThunderX2-99xx", 0x0B0: "OcteonTX2", 0x0B1: "OcteonTX2-98XX", 0x0B2: "OcteonTX2-96XX",
           0x0B3: "OcteonTX2-95XX", 0x0B8: "ThunderX3-T110"},
    0x46: {0x001: "A64FX", 0x003: "MONAKA"},
    0x48: {0xD01: "TaiShan v110", 0xD02: "TaiShan v120", 0xD40: "Cortex-A76"},
    0x4E: {0x000: "Denver", 0x003: "Denver 2", 0x004: "Carmel", 0x010: "Olympus"},
    0x50: {0x000: "X-Gene"},
    0x51: {0x001: "Oryon", 0x00F: "Scorpion", 0x02D: "Scorpion", 0x04D: "Krait", 0x06F: "Krait", 0x201: "Kryo",
           0x205: "Kryo", 0x211: "Kryo", 0x800: "Kryo 2XX Gold", 0x801: "Kryo 2XX Silver", 0x802: "Kryo 3XX Gold",
           0x803: "Kryo 3XX Silver", 0x804: "Kryo 4XX Gold", 0x805: "Kryo 4XX Silver", 0xC00: "Falkor",
           0xC01: "Saphira"},
    0x53: {0x001: "Exynos M1", 0x002: "Exynos M3", 0x003: "Exynos M4", 0x004: "Exynos M5"},
    0x56: {0x131: "Feroceon", 0x581: "PJ4", 0x584: "PJ4B"},
    0x61: {0x020: "Icestorm (A14)", 0x021: "Firestorm (A14)", 0x022: "Icestorm (M1)", 0x023: "Firestorm (M1)",
           0x024: "Icestorm (M1 Pro)", 0x025: "Firestorm (M1 Pro)", 0x028: "Icestorm (M1 Max)",
           0x029: "Firestorm (M1 Max)", 0x030: "Blizzard (A15)", 0x031: "Avalanche (A15)", 0x032: "Blizzard (M2)",
           0x033: "Avalanche (M2)", 0x034: "Blizzard (M2 Pro)", 0x035: "Avalanche (M2 Pro)",
           0x038: "Blizzard (M2 Max)", 0x039: "Avalanche (M2 Max)"},
    0x6D: {0xD49: "Azure Cobalt 100"},
    0x70: {0x660: "FTC660", 0x661: "FTC661", 0x662: "FTC662", 0x663: "FTC663", 0x862: "FTC862"},
    0xC0: {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a", 0xAC5: "Ampere-1b"},
}  # fmt: skip
_MOST_NAMES = 16


def cpu_list(text: Optional[str]) -> Optional[frozenset[int]]:
    """`0-3,8,10-11` as a set; None for invalid text. Empty text is an empty set."""
    if text is None:
        return None
    cpus: set[int] = set()
    for part in text.strip("\x00 \t\r\n").split(","):
        if not part and not cpus:
            continue
        first, dash, last = part.partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not (last.isascii() and last.isdigit())):
            return None
        low, high = int(first), int(last) if dash else int(first)
        if low > high or high > _HIGHEST_CPU:
            return None
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def cpuinfo_value(text: Optional[str], key: str) -> str:
    """The value of the first line with this key in /proc/cpuinfo; empty if there is none."""
    for line in (text or "").splitlines():
        if line.startswith(key) and line[len(key) :].lstrip().startswith(":"):
            return line.partition(":")[2].strip()
    return ""


def cpu_model(text: Optional[str]) -> str:
    """The processor's name from /proc/cpuinfo, with those of mixed cores joined by ` + `; empty if unnamed."""
    names: list[tuple[str, str]] = []
    implementer = None
    for line in (text or "").splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not value:
            continue
        name = ("", "")
        if key in _MODEL_KEYS and not (key == "cpu" and value.isdigit()):
            name = ("", " ".join(value.split()))
        elif key == "CPU implementer":
            implementer = _hexadecimal(value)
        elif key == "CPU part" and implementer is not None:
            name = _arm_name(implementer, _hexadecimal(value))
        elif key.startswith("processor ") and "machine = " in value:  # s390
            name = ("", f"IBM/S390 machine {value.rpartition('machine = ')[2].split()[0]}")
        if any(name) and name not in names:
            names.append(name)
    return _joined(names[:_MOST_NAMES])


def _joined(names: list[tuple[str, str]]) -> str:
    """The names with each maker only once: `ARM Cortex-A725 + Cortex-X925`."""
    words = []
    before = ""
    for maker, part in names:
        without_maker = part and (maker == before or part.startswith(f"{maker}-"))
        words.append(part if without_maker else f"{maker} {part}".strip())
        before = maker
    return " + ".join(words)


def _hexadecimal(text: str) -> Optional[int]:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _arm_name(implementer: int, part: Optional[int]) -> tuple[str, str]:
    maker = _ARM_MAKERS.get(implementer, f"implementer {implementer:#04x}")
    known = _ARM_PARTS.get(implementer, {})
    if part is None or (part == 0 and part not in known):  # Apple's hypervisor gives no part
        return maker, ""
    return maker, known.get(part, f"part {part:#05x}")
