"""The kernel's texts about CPUs: lists of numbers, /proc/cpuinfo."""

from __future__ import annotations

from typing import Optional

__all__ = ["cpu_list", "cpu_model"]

_HIGHEST_CPU = 65_535  # as many as a record may hold; a wider range in a list is damage, not a machine

# The key that names the processor, by architecture: x86, POWER, MIPS, LoongArch, RISC-V
_MODEL_KEYS = ("model name", "cpu model", "Model Name", "cpu", "uarch")

# ARM prints numbers: implementer → (maker, part → name). The common server, board and laptop cores.
_ARM_MAKERS = {0x41: "ARM", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon", 0x4E: "NVIDIA",
               0x50: "APM", 0x51: "Qualcomm", 0x61: "Apple", 0xC0: "Ampere"}  # fmt: skip
_ARM_PARTS = {
    (0x41, 0xD03): "Cortex-A53", (0x41, 0xD05): "Cortex-A55", (0x41, 0xD07): "Cortex-A57", (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73", (0x41, 0xD0A): "Cortex-A75", (0x41, 0xD0B): "Cortex-A76", (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1", (0x41, 0xD41): "Cortex-A78", (0x41, 0xD44): "Cortex-X1", (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2", (0x46, 0x001): "A64FX", (0x48, 0xD01): "TaiShan v110", (0xC0, 0xAC3): "Ampere-1",
}  # fmt: skip


def cpu_list(text: Optional[str]) -> Optional[frozenset[int]]:
    """`0-3,8,10-11` as a set; None for text that is no such list. An empty text is an empty set."""
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


def cpu_model(text: Optional[str]) -> str:
    """The processor's name from /proc/cpuinfo, several of mixed cores joined by ` + `; empty if unnamed."""
    names: list[str] = []
    implementer = None
    for line in (text or "").splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not value:
            continue
        name = ""
        if key in _MODEL_KEYS and not (key == "cpu" and value.isdigit()):
            name = " ".join(value.split())
        elif key == "CPU implementer":
            implementer = _hexadecimal(value)
        elif key == "CPU part" and implementer is not None:
            name = _arm_name(implementer, _hexadecimal(value))
        if name and name not in names:
            names.append(name)
    return " + ".join(names[:4])


def _hexadecimal(text: str) -> Optional[int]:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _arm_name(implementer: int, part: Optional[int]) -> str:
    maker = _ARM_MAKERS.get(implementer, f"implementer {implementer:#04x}")
    if part is None:
        return maker
    return f"{maker} {_ARM_PARTS.get((implementer, part), f'part {part:#05x}')}"
