"""Nothing that a driver, a file or a recording may say crashes a reader, and no nonsense is published."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from agent.probe.gpu import nvidia
from agent.probe.gpu.amd import kfd_node
from agent.probe.gpu.finding import GpuFinding
from agent.probe.gpu.nvml import bus_address, nvml_answer
from agent.probe.gpu.pci import gpu_devices
from agent.probe.gpu.pci_ids import find_name, short_name
from agent.probe.gpu.plausibility import believable
from agent.probe.gpu.readers import read_all
from registry_core.models.node import Gpu, NodeCapabilities
from tests.probe.gpu.machine import Machine, pci_files
from tests.probe.gpu.test_readers import (
    A100,
    DEVICE_FILES,
    MI300X_NODE,
    MODULE,
    PCI_IDS,
    VGA,
    amd_files,
    nvidia_machine,
)

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


SPICE: list[Any] = [
    None,
    True,
    -1,
    2**64 - 1,
    1e308,
    "",
    "x" * 5000,
    "\x00\x1b",
    "GPU-1",
    [],
    {},
    "00000000:10:00.0",
    15,
]
KEYS = ["outcome", "failed", "system", "devices", "at", "code", "call", "errors", "bus_id", "uuid", "name", "mig"]
KEYS += [
    "memory_bytes",
    "instances",
    "compute_mode",
    "device_count",
    "cuda_version",
    "driver_version",
    "detail",
    "output",
]
KEYS += ["nvmlDeviceGetUUID", "nvmlDeviceGetHandleByPciBusId", "signal"]
OUTCOMES = ["answered", "crashed", "hung", "stuck", "failed", "not-installed"]


def rubbish(dice: random.Random, depth: int = 4) -> Any:
    kind = dice.randrange(4) if depth else 0
    if kind == 1:
        return [rubbish(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind >= 2:
        return {dice.choice(KEYS): rubbish(dice, depth - 1) for _ in range(dice.randrange(8))}
    return dice.choice(SPICE)


def garbage_document(dice: random.Random) -> Any:
    document = rubbish(dice)
    if isinstance(document, dict):
        document["outcome"] = dice.choice(OUTCOMES)
        document["devices"] = [rubbish(dice) for _ in range(3)]
    return document


def garbage_text(dice: random.Random, sample: str) -> str:
    """A true file with some of it changed, or nothing true at all."""
    if dice.random() < 0.3:
        return "".join(
            chr(dice.choice((0, 10, 32, 45, 48, 57, 65, 120, 0xFFFD, 0x202E))) for _ in range(dice.randrange(60))
        )
    characters = list(sample)
    for _ in range(dice.randrange(6)):
        characters[dice.randrange(len(characters))] = dice.choice("0123456789 -x\n\tF\x00")
    return "".join(characters)[: dice.randrange(1, len(characters) + 1)]


def assert_registry_accepts(findings: list[GpuFinding]) -> None:
    NodeCapabilities(gpus=tuple(Gpu(**finding.gpu_fields()) for finding in findings))


def test_garbage_from_nvml_never_crashes_and_is_never_published() -> None:
    for seed in range(1500):
        document = garbage_document(random.Random(seed))
        nvml_answer(document)
        machine = nvidia_machine(document)
        assert_registry_accepts(believable(read_all(machine, gpu_devices(machine)).findings).findings)


def test_garbage_in_sysfs_never_crashes_and_is_never_published() -> None:
    true = {**amd_files(product_name="AMD Instinct MI300X\n", unique_id="1234567890abcdef\n")}
    true.update(pci_files("0000:10:00.0", *A100, driver="nvidia", power__runtime_status="active\n"))
    true.update(pci_files("0000:03:00.0", 0x8086, 0x56A0, VGA, "xe", tile0__physical_vram_size_bytes="8589934592\n"))
    true["/sys/class/kfd/kfd/topology/nodes/1/properties"] = MI300X_NODE
    true["/proc/driver/nvidia/version"] = MODULE
    true["/proc/sys/kernel/osrelease"] = "6.8.0\n"
    for seed in range(800):
        dice = random.Random(seed)
        spoiled = {path: garbage_text(dice, text) if dice.random() < 0.4 else text for path, text in true.items()}
        machine = Machine(spoiled, {**DEVICE_FILES, ("nvml", "0000:10:00.0"): garbage_document(dice)})
        assert_registry_accepts(believable(read_all(machine, gpu_devices(machine)).findings).findings)


def test_parsers_are_not_slow_on_long_garbage() -> None:
    long = "Model:" + " " * 200_000
    began = time.process_time()
    nvidia.model_in_proc(long)
    nvidia.kernel_module_version("Kernel Module" + " " * 200_000)
    kfd_node("a " * 100_000)
    assert time.process_time() - began < 2


def test_every_small_parser_takes_any_text() -> None:
    samples = (PCI_IDS, MODULE, MI300X_NODE, "00000000:3B:00.0", "Model: \t\t NVIDIA A100\n")
    for seed in range(1000):
        dice = random.Random(seed)
        text = garbage_text(dice, dice.choice(samples))
        find_name(text.splitlines(keepends=True), "10de", "20b2")
        short_name(text)
        nvidia.kernel_module_version(text)
        nvidia.model_in_proc(text)
        kfd_node(text)
        bus_address(text)
