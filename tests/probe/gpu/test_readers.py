"""Each maker's reader, from files as the kernel writes them to findings."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from agent.probe.gpu import nvidia
from agent.probe.gpu.amd import KfdNode, kfd_node
from agent.probe.gpu.finding import INTEGRATED_NOTE, GpuFinding
from agent.probe.gpu.pci import PciDevice, Role, gpu_devices, maker_and_model
from agent.probe.gpu.pci_ids import find_name, short_name
from agent.probe.gpu.plausibility import believable
from agent.probe.gpu.readers import read_all
from agent.probe.gpu.reasons import word_of
from tests.probe.gpu.machine import Machine, pci_files

A100 = (0x10DE, 0x20B2, 0x030200)
VGA = 0x030000
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc\n"
OPEN_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  "
    "(dvs-builder@U16-I3-B03-4-3)  Fri Aug 16 21:42:42 UTC 2024\n"
)
DEVICE_FILES = {
    ("access", "/dev/kfd"): "yes",
    ("access", "/dev/dri/renderD128"): "yes",
    ("access", "/dev/dri/renderD129"): "yes",
}


CONTROL = {("access", "/dev/nvidiactl"): "yes"}


def found(machine: Machine) -> list[GpuFinding]:
    return read_all(machine, gpu_devices(machine)).findings


def the_one(machine: Machine) -> GpuFinding:
    (finding,) = found(machine)
    return finding


# --- PCI


@pytest.mark.parametrize(
    ("vendor", "device", "pci_class", "driver", "role"),
    [
        (0x10DE, 0x20B2, 0x030200, "nvidia", Role.GPU),
        (0x1002, 0x74A1, 0x120000, "amdgpu", Role.GPU),
        (0x8086, 0x0BD5, 0x038000, "xe", Role.GPU),
        (0x8086, 0x7D1D, 0x120000, "intel_vpu", Role.ACCELERATOR),
        (0x8086, 0x37C8, 0x0B4000, "c6xx", Role.ACCELERATOR),
        (0x1DA3, 0x1020, 0x120000, "habanalabs", Role.ACCELERATOR),
        (0x1A03, 0x2000, VGA, "ast", Role.DISPLAY),
        (0x102B, 0x0536, VGA, "mgag200", Role.DISPLAY),
        (0x1234, 0x1111, VGA, "bochs-drm", Role.DISPLAY),
        (0x1AF4, 0x1050, 0x038000, "virtio-pci", Role.DISPLAY),
        (0x15AD, 0x0405, VGA, "vmwgfx", Role.DISPLAY),
        (0x1013, 0x00B8, VGA, "cirrus", Role.DISPLAY),
        (0x1D0F, 0x1111, VGA, "", Role.DISPLAY),
        (0x1002, 0x515E, VGA, "radeon", Role.DISPLAY),
        (0x19E5, 0x1711, VGA, "hibmc-drm", Role.DISPLAY),
        (0x1ED5, 0x0222, VGA, "mtgpu", Role.GPU),
    ],
)
def test_class_maker_and_driver_tell_what_a_device_is_for(
    vendor: int, device: int, pci_class: int, driver: str, role: str
) -> None:
    (found_device,) = gpu_devices(Machine(pci_files("0000:01:00.0", vendor, device, pci_class, driver)))
    assert found_device.role == role


def test_devices_of_other_classes_are_left_out() -> None:
    files = pci_files("0000:00:1f.6", 0x8086, 0x15BB, 0x020000, "e1000e")
    files.update(pci_files("0000:01:00.1", 0x10DE, 0x1AEF, 0x040300, "snd_hda_intel"))
    assert gpu_devices(Machine(files)) == []


def test_a_device_that_vanishes_while_it_is_read_is_left_out() -> None:
    assert gpu_devices(Machine({"/sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n"})) == []


def test_virtual_functions_kept_for_guests_are_no_gpus_of_this_machine() -> None:
    files = pci_files("0000:03:00.0", 0x1002, 0x74A1, 0x120000, "amdgpu")
    files.update(pci_files("0000:03:02.0", 0x1002, 0x74B5, 0x120000, "vfio-pci", physfn="-> ../0000:03:00.0"))
    files.update(pci_files("0000:03:02.1", 0x1002, 0x74B5, 0x120000, "amdgpu", physfn="-> ../0000:03:00.0"))
    assert [device.address for device in gpu_devices(Machine(files))] == ["0000:03:00.0", "0000:03:02.1"]


@pytest.mark.parametrize(
    ("driver", "word"),
    [
        ("", "no-driver"),
        ("nouveau", "wrong-driver"),
        ("vfio-pci", "passed-through"),
        ("pci-stub", "passed-through"),
    ],
)
def test_a_gpu_without_its_makers_driver_says_what_has_it(driver: str, word: str) -> None:
    for vendor in (0x10DE, 0x1002, 0x8086):
        finding = the_one(Machine(pci_files("0000:01:00.0", vendor, 0x1234, VGA, driver)))
        assert (word_of(finding.reason), finding.driver, finding.usable) == (word, driver, False)


def test_a_maker_without_a_reader_is_told_as_unsupported() -> None:
    finding = the_one(Machine(pci_files("0000:01:00.0", 0x1ED5, 0x0222, VGA, "mtgpu")))
    assert (finding.vendor, finding.model, word_of(finding.reason)) == (
        "Moore Threads",
        "vendor 0x1ed5 device 0x0222",
        "unsupported",
    )


PCI_IDS = """# comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
	744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]
		1002 0e3b  Radeon RX 7900 XTX
10de  NVIDIA Corporation
	20b2  GA100 [A100 SXM4 80GB]
8086  Intel Corporation
C 03  Display controller
"""


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (
            "1002:744c",
            ["Advanced Micro Devices, Inc. [AMD/ATI]", "Navi 31 [Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M]"],
        ),
        ("10de:20b2", ["NVIDIA Corporation", "GA100 [A100 SXM4 80GB]"]),
        ("10de:744c", ["NVIDIA Corporation", ""]),
        ("8086:0003", ["Intel Corporation", ""]),
        ("ffff:0000", None),
    ],
)
def test_names_come_from_the_hosts_own_list(asked: str, names: Any) -> None:
    vendor, _, device = asked.partition(":")
    assert find_name(PCI_IDS.splitlines(keepends=True), vendor, device) == names


@pytest.mark.parametrize(
    ("listed", "short"),
    [("AD102 [GeForce RTX 4090]", "GeForce RTX 4090"), ("Arc A770", "Arc A770"), ("x []", "x []"), ("", "")],
)
def test_the_name_is_the_one_it_is_sold_under(listed: str, short: str) -> None:
    assert short_name(listed) == short


@pytest.mark.parametrize("answer", [None, [], ["one"], [1, 2], {"a": 1}, "text"])
def test_without_a_name_the_numbers_are_told(answer: Any) -> None:
    machine = Machine({}, {("pci_name", "1002:744c"): answer})
    device = PciDevice("0000:01:00.0", VGA, 0x1002, 0x744C)
    assert maker_and_model(machine, device) == ("AMD", "vendor 0x1002 device 0x744c")


# --- NVIDIA


@pytest.mark.parametrize(
    ("text", "version"), [(MODULE, "550.54.15"), (OPEN_MODULE, "560.35.03"), ("", ""), (None, ""), ("\x00Kernel", "")]
)
def test_the_version_of_the_loaded_module_is_read_from_proc(text: Any, version: str) -> None:
    assert nvidia.kernel_module_version(text) == version


def nvidia_machine(document: Any, *, driver: str = "nvidia", status: str = "active", control: str = "yes") -> Machine:
    files = pci_files("0000:10:00.0", *A100, driver=driver, power__runtime_status=status + "\n")
    files["/proc/driver/nvidia/version"] = MODULE
    files["/proc/driver/nvidia/gpus/0000:10:00.0/information"] = "Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 33\n"
    return Machine(files, {**DEVICE_FILES, ("access", "/dev/nvidiactl"): control, ("nvml", "0000:10:00.0"): document})


def test_without_the_python_library_proc_still_tells_model_and_driver() -> None:
    finding = the_one(nvidia_machine({"outcome": "not-installed"}))
    assert (finding.model, finding.driver_version, word_of(finding.reason)) == (
        "NVIDIA A100-SXM4-80GB",
        "550.54.15",
        "library-not-installed",
    )


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"outcome": "crashed", "signal": "SIGSEGV", "at": "nvmlInit"}, "library-crashed"),
        ({"outcome": "hung", "at": "nvmlInit"}, "library-hung"),
        ({"outcome": "stuck"}, "driver-stuck"),
        ({"outcome": "failed", "detail": "ImportError: no module"}, "nvml-failed"),
    ],
)
def test_a_driver_in_trouble_is_not_bothered_again(document: Any, word: str) -> None:
    machine = nvidia_machine(document)
    finding = the_one(machine)
    assert word_of(finding.reason) == word
    assert not any(path.endswith("information") for path in machine.asked)


@pytest.mark.parametrize(
    ("answer", "word"), [("missing", "no-device-file"), ("denied", "no-permission"), ("yes", "driver-not-loaded")]
)
def test_a_device_file_that_is_hidden_says_more_than_nvml_does(answer: str, word: str) -> None:
    machine = nvidia_machine({"outcome": "answered", "failed": {"call": "nvmlInit", "code": 9}}, control=answer)
    finding = the_one(machine)
    assert word_of(finding.reason) == word
    assert ("/dev/nvidiactl" in finding.reason) == (answer != "yes")


def test_a_sleeping_gpu_is_left_asleep_and_offered_on_the_kernels_word() -> None:
    machine = nvidia_machine({"outcome": "answered"}, status="suspended")
    finding = the_one(machine)
    assert (finding.asleep, finding.reason, finding.memory_bytes, finding.driver_version) == (
        True,
        "",
        None,
        "550.54.15",
    )
    assert not any(item.startswith("nvml") or item.endswith("information") for item in machine.asked)


def test_only_the_gpus_that_are_awake_are_asked_for() -> None:
    files = pci_files("0000:10:00.0", *A100, driver="nvidia", power__runtime_status="active\n")
    files.update(pci_files("0000:20:00.0", *A100, driver="nvidia", power__runtime_status="suspended\n"))
    whole = {"outcome": "answered", "failed": {"call": "nvmlInit", "code": 18}}
    findings = found(Machine(files, {**CONTROL, ("nvml", "0000:10:00.0"): whole}))
    # what is wrong with the library is wrong for the sleeper too
    assert [word_of(finding.reason) for finding in findings] == ["version-mismatch", "version-mismatch"]


def test_a_container_that_was_given_one_gpu_of_three_offers_one() -> None:
    addresses = ["0000:10:00.0", "0000:20:00.0", "0000:30:00.0"]
    files = {"/proc/driver/nvidia/version": MODULE}
    for address in addresses:  # sysfs shows the whole machine in a container too
        files.update(pci_files(address, *A100, driver="nvidia", power__runtime_status="active\n"))
    given = {"bus_id": "00000000:20:00.0", "uuid": "GPU-2", "name": "A100", "memory_bytes": 10**10, "errors": {}}
    kept = [
        {"bus_id": address, "errors": {"nvmlDeviceGetHandleByPciBusId": 6}} for address in (addresses[0], addresses[2])
    ]
    document = {"outcome": "answered", "devices": [kept[0], given, kept[1]]}
    findings = found(Machine(files, {**CONTROL, ("nvml", ",".join(addresses)): document}))
    assert [word_of(finding.reason) for finding in findings] == ["not-offered", "", "not-offered"]


def test_a_gpu_is_found_where_no_pci_bus_is_seen() -> None:
    gpu = {"index": 0, "bus_id": "00000000:01:00.0", "uuid": "GPU-1", "name": "NVIDIA RTX", "memory_bytes": 10**10}
    document = {"outcome": "answered", "devices": [gpu]}
    files = ("access", "/dev/nvidiactl")
    finding = the_one(Machine({}, {files: "yes", ("nvml", ""): document}))
    assert (finding.model, finding.memory_bytes, finding.usable) == ("NVIDIA RTX", 10**10, True)


def test_a_host_without_nvidia_never_asks_nvml() -> None:
    machine = Machine(pci_files("0000:00:02.0", 0x8086, 0x46A6, VGA, "i915"))
    found(machine)
    assert not any(item.startswith("nvml") for item in machine.asked)


# --- AMD

MI300X_NODE = """cpu_cores_count 0
simd_count 1216
mem_banks_count 1
gfx_target_version 90402
vendor_id 4098
device_id 29857
location_id 3072
domain 0
drm_render_minor 128
local_mem_size 0
"""


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (MI300X_NODE, KfdNode("0000:0c:00.0", "gfx942", integrated=False)),
        ("simd_count 16\ncpu_cores_count 8\nlocation_id 1024\n", KfdNode("0000:04:00.0", "", integrated=True)),
        ("simd_count 8\nlocation_id 785\ndomain 1\n", KfdNode("0001:03:02.1", "", integrated=False)),
        ("cpu_cores_count 64\nsimd_count 0\nlocation_id 0\n", None),
        ("", None),
        ("simd_count 18446744073709551615\nlocation_id 18446744073709551615\n", None),
    ],
)
def test_a_kfd_node_tells_where_its_gpu_sits(text: str, node: Any) -> None:
    assert kfd_node(text) == node


def amd_files(node: str = "renderD128", **more: str) -> dict[str, str]:
    wanted = {
        "mem_info_vram_total": "536870912\n",
        "mem_info_gtt_total": "8053063680\n",
        f"drm__{node}__dev": "226:128\n",
    }
    return pci_files("0000:0c:00.0", 0x1002, 0x1638, VGA, "amdgpu", **{**wanted, **more})


def test_an_apu_tells_its_own_memory_and_what_it_may_borrow() -> None:
    finding = the_one(Machine(amd_files(), DEVICE_FILES))
    assert (finding.memory_bytes, finding.shared_memory_bytes, finding.usable) == (536870912, 8053063680, True)


def test_a_virtual_function_without_product_name_is_told_by_its_numbers() -> None:
    assert the_one(Machine(amd_files(), DEVICE_FILES)).model == "vendor 0x1002 device 0x1638"
    assert (
        the_one(Machine(amd_files(product_name="AMD Instinct MI300X\n"), DEVICE_FILES)).model == "AMD Instinct MI300X"
    )


@pytest.mark.parametrize(
    ("missing", "answer", "word"),
    [
        ("/dev/dri/renderD128", "missing", "no-device-file"),
        ("/dev/dri/renderD128", "denied", "no-permission"),
        ("/dev/kfd", "missing", "no-device-file"),
        ("/dev/kfd", "denied", "no-permission"),
    ],
)
def test_a_gpu_whose_device_file_cannot_be_opened_is_not_offered(missing: str, answer: str, word: str) -> None:
    files = {**amd_files(), "/sys/class/kfd/kfd/topology/nodes/1/properties": MI300X_NODE}
    finding = the_one(Machine(files, {**DEVICE_FILES, ("access", missing): answer}))
    assert (word_of(finding.reason), missing in finding.reason) == (word, True)


def test_a_sleeping_amd_gpu_is_asked_nothing_of_its_own() -> None:
    machine = Machine(amd_files(power__runtime_status="suspended\n"), DEVICE_FILES)
    finding = the_one(machine)
    assert (finding.asleep, finding.usable, finding.memory_bytes) == (True, True, None)
    assert not any("mem_info" in path or "product_name" in path for path in machine.asked)


def test_the_driver_package_is_told_before_the_kernel_it_runs_in() -> None:
    kernel = {**amd_files(), "/proc/sys/kernel/osrelease": "6.8.0-45-generic\n"}
    assert the_one(Machine(kernel, DEVICE_FILES)).driver_version == "6.8.0-45-generic"
    packaged = {**kernel, "/sys/module/amdgpu/version": "6.8.5\n"}
    assert the_one(Machine(packaged, DEVICE_FILES)).driver_version == "6.8.5"


# --- Intel


def intel(address: str, driver: str, **more: str) -> GpuFinding:
    wanted = {"drm__renderD128__dev": "226:128\n", "drm__card0__dev": "226:0\n"}
    return the_one(Machine(pci_files(address, 0x8086, 0x56A0, VGA, driver, **{**wanted, **more}), DEVICE_FILES))


def test_xe_tells_the_memory_of_each_tile() -> None:
    tiles = {f"tile{number}__physical_vram_size_bytes": "8589934592\n" for number in range(2)}
    assert intel("0000:03:00.0", "xe", **tiles).memory_bytes == 2 * 8589934592


def test_i915_tells_memory_only_where_intels_package_says_it() -> None:
    told = intel("0000:03:00.0", "i915", drm__card0__lmem_total_bytes="17179869184\n")
    assert (told.memory_bytes, told.note) == (17179869184, "")
    silent = intel("0000:03:00.0", "i915")
    assert (silent.memory_bytes, silent.usable, silent.note) == (
        None,
        True,
        "this i915 driver does not report its memory",
    )


def test_an_integrated_gpu_has_no_memory_of_its_own() -> None:
    finding = intel("0000:00:02.0", "i915", tile0__physical_vram_size_bytes="1\n")
    assert (finding.memory_bytes, finding.usable) == (None, True)


# --- What cannot be so


def test_an_impossible_amount_of_memory_is_an_error_and_no_capability() -> None:
    for claimed in (2**64 - 1, -1, 10**15):
        gpu = GpuFinding("NVIDIA", "X", claimed, pci_address="0000:10:00.0")
        (checked,), (failure,) = believable([gpu])
        assert (checked.memory_bytes, word_of(checked.reason), failure.raw) == (None, "not-believable", claimed)


def test_more_gpus_than_can_be_are_none() -> None:
    findings, (failure,) = believable([GpuFinding("NVIDIA", uuid=f"GPU-{number}") for number in range(257)])
    assert (findings, failure.raw) == ([], 257)


def test_the_same_gpu_twice_is_offered_once() -> None:
    one, other = (
        GpuFinding("AMD", "a", uuid="GPU-1", pci_address="1"),
        GpuFinding("AMD", "b", uuid="GPU-1", pci_address="2"),
    )
    findings, (failure,) = believable([one, other])
    assert ([finding.model for finding in findings], failure.raw) == (["a"], "GPU-1")
    findings, (failure,) = believable([one, other._replace(uuid="", pci_address="1")])
    assert ([finding.model for finding in findings], failure.raw) == (["a"], "1")


def test_mig_instances_share_an_address_and_are_all_offered() -> None:
    instances = [GpuFinding("NVIDIA", uuid=f"MIG-{n}", pci_address="1", parent="GPU-1") for n in range(7)]
    assert believable(instances) == (instances, [])


def test_text_that_no_terminal_should_see_is_an_error() -> None:
    (checked,), (failure,) = believable([GpuFinding("NVIDIA", "A\x1b[31m100", pci_address="0000:10:00.0")])
    assert (checked.model, failure.raw) == ("", "A\x1b[31m100")
    (checked,), _ = believable([GpuFinding("NVIDIA", reason="x\x1b" * 300)])
    assert len(checked.reason) <= 256
    assert "\x1b" not in checked.reason


@pytest.mark.parametrize(
    ("own_gb", "note", "registered"),
    [
        (0.537, "", True),  # an APU with 512 MiB set aside
        (None, "", True),
        (68.7, "", False),  # a card that may reach into the machine's memory over its bus
        (103.0, INTEGRATED_NOTE, True),
    ],
)
def test_shared_memory_is_registered_of_what_works_in_the_machines_memory(
    own_gb: Optional[float], note: str, registered: bool
) -> None:
    own = None if own_gb is None else int(own_gb * 1e9)
    finding = GpuFinding("AMD", "x", own, shared_memory_bytes=8_053_000_000, note=note)
    assert ("shared_memory_gb" in finding.gpu_fields()) is registered
    assert finding.details()["shared_memory_gb"] == 8.053
