"""AMD's GPUs from sysfs: the amdgpu driver reports the memory, its kfd part (ROCm) which GPUs can run HIP.

Reading sysfs loads no library and starts no process. A sleeping GPU is not woken: only its PCI data is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from agent.probe.gpu.device_files import render_node, trouble_with
from agent.probe.gpu.finding import INTEGRATED_NOTE, GpuFinding, GpuRead
from agent.probe.gpu.pci import PciDevice, maker_and_model
from agent.probe.gpu.reasons import driver_reason
from agent.probe.source import Source

__all__ = ["KfdNode", "kfd_node", "kfd_nodes", "read"]

_DRIVER = ("amdgpu",)
_KFD = "/sys/class/kfd/kfd/topology/nodes"
_PROPERTY = re.compile(r"^(\w+)[ \t]+(\d{1,20})$", re.MULTILINE)

_UNIQUE = re.compile(r"[0-9a-f]{16}(?=\s*\Z)")  # recordings mask it


class KfdNode(NamedTuple):
    """A compute node of the kfd topology. `integrated`: CPU cores and GPU share the node (an APU)."""

    address: str
    target: str
    integrated: bool


def kfd_node(text: str) -> Optional[KfdNode]:
    """Parse a node's `properties` file; None for a node without GPU (simd_count 0) and for invalid text.

    `location_id` is bus × 256 + device × 8 + function. `gfx_target_version` is decimal: 90402 is gfx942.
    """
    values = {name: int(value) for name, value in _PROPERTY.findall(text)}
    location, domain = values.get("location_id", -1), values.get("domain", 0)
    if values.get("simd_count", 0) < 1 or not 0 <= location <= 0xFFFF or domain > 0xFFFFFFFF:
        return None
    address = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 31:02x}.{location & 7}"
    version = values.get("gfx_target_version", 0)
    target = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if 0 < version < 1_000_000 else ""
    return KfdNode(address, target, values.get("cpu_cores_count", 0) > 0)


def kfd_nodes(source: Source) -> list[KfdNode]:
    """The GPUs that ROCm can use. A partitioned GPU (MI300 in CPX mode) has several nodes at one address."""
    nodes = []
    for name in source.list_dir(_KFD):
        node = kfd_node(_text(source, f"{_KFD}/{name}/properties"))
        if node is not None:
            nodes.append(node)
    return nodes


def read(source: Source, devices: Sequence[PciDevice]) -> GpuRead:
    """A finding for each device."""
    nodes = kfd_nodes(source)
    version = driver_version(source, "amdgpu")
    found = []
    for device in devices:
        own = [node for node in nodes if node.address == device.address]
        found.append(_finding(source, device, own, version))
    return GpuRead(found, [])


def _finding(source: Source, device: PciDevice, nodes: Sequence[KfdNode], version: str) -> GpuFinding:
    maker, model = maker_and_model(source, device)
    reason = driver_reason(device.driver, _DRIVER)
    finding = GpuFinding(maker, model, reason=reason, pci_address=device.address, driver=device.driver, source="PCI")
    if reason:
        return finding
    needed = [render_node(source, device.folder) or "/dev/dri/renderD*"]
    if nodes:
        needed.append("/dev/kfd")
    finding = finding._replace(driver_version=version, reason=trouble_with(source, *needed))
    if device.asleep:
        return finding._replace(asleep=True)
    product = _text(source, f"{device.folder}/product_name").strip()  # virtual functions and laptops have none
    unique = _UNIQUE.match(_text(source, f"{device.folder}/unique_id"))
    return finding._replace(
        model=product or model,
        memory_bytes=source.read_int(f"{device.folder}/mem_info_vram_total"),
        shared_memory_bytes=source.read_int(f"{device.folder}/mem_info_gtt_total"),
        uuid=f"GPU-{unique[0]}" if unique else "",
        note=_note(nodes),
        compute_capability=nodes[0].target if nodes else "",
        source=f"{device.folder}/mem_info_vram_total",
    )


def _note(nodes: Sequence[KfdNode]) -> str:
    parts = []
    if nodes and nodes[0].target:
        parts.append(f"ROCm target {nodes[0].target}")
    if len(nodes) > 1:
        parts.append(f"divided into {len(nodes)} compute partitions, reported as one GPU")
    if any(node.integrated for node in nodes):
        parts.append(INTEGRATED_NOTE)
    return "; ".join(parts)


def driver_version(source: Source, module: str) -> str:
    """The driver's own version, if it has one (AMD's DKMS package), else the kernel's."""
    own = _text(source, f"/sys/module/{module}/version").strip()
    return own or _text(source, "/proc/sys/kernel/osrelease").strip()


def _text(source: Source, path: str) -> str:
    """The text of a file, empty if there is none or access is denied."""
    try:
        return source.read_text(path) or ""
    except PermissionError:
        return ""
