"""The instruction sets in /proc/cpuinfo that matter to work, by their common names."""

from __future__ import annotations

import re
from typing import Optional

__all__ = ["instruction_sets"]

# The kernel's name → ours, in the order of the result. The line is `flags` on x86, `Features` on ARM and s390.
_NAMES = (
    ("avx", "avx"), ("avx2", "avx2"), ("fma", "fma"), ("avx512f", "avx512"), ("avx512_vnni", "avx512-vnni"),
    ("avx512_bf16", "avx512-bf16"), ("avx_vnni", "avx-vnni"), ("amx_tile", "amx"), ("sha_ni", "sha"),
    ("asimd", "neon"), ("neon", "neon"), ("sve", "sve"), ("sve2", "sve2"), ("sme", "sme"), ("i8mm", "i8mm"),
    ("bf16", "bf16"), ("sha2", "sha"), ("aes", "aes"), ("lasx", "lasx"), ("lsx", "lsx"), ("vxe", "vx"), ("vx", "vx"),
)  # fmt: skip
_RISCV_VECTORS = re.compile(r"rv(?:32|64)[a-u]*v")


def instruction_sets(text: Optional[str]) -> list[str]:
    """The instruction sets that all CPUs have, because work may run on any CPU. Empty if the file lists none."""
    lines = {line for line in (text or "").splitlines() if line.lower().startswith(("flags", "features", "isa"))}
    sets = [set(line.partition(":")[2].split()) for line in lines]
    common = set.intersection(*sets) if sets else set()
    names = [name for word, name in _NAMES if word in common]
    if common and any(_RISCV_VECTORS.match(word) for word in common):
        names.append("rvv")
    if "altivec supported" in (text or ""):
        names.append("altivec")
    return list(dict.fromkeys(names))
