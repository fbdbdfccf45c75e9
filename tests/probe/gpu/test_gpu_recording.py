"""A recording of a machine with GPUs: it replays as the machine was, and tells nobody which machine it was."""

from __future__ import annotations

from agent.probe.gpu.pci import gpu_devices
from agent.probe.gpu.readers import read_all
from agent.probe.masking import masked
from agent.probe.probes.gpu import GpuProbe
from agent.probe.recording import Recorder, RecordingSource
from agent.probe.runner import ProbeRunner
from tests.probe.gpu.machine import Machine, pci_files

SECRETS = ("8c3b1f4e-9a2d-4c7f-b1e0-5d6f7a8b9c0d", "4a5b6c7d8e9f0a1b", "5357392119812345678")


def machine() -> Machine:
    files = pci_files("0000:10:00.0", 0x10DE, 0x2230, 0x030000, "nvidia", power__runtime_status="active\n")
    amd = {"unique_id": f"{SECRETS[1]}\n", "mem_info_vram_total": "68702699520\n", "drm__renderD128__dev": "226:128\n"}
    files.update(pci_files("0000:21:00.0", 0x1002, 0x740F, 0x038000, "amdgpu", **amd))
    files["/proc/driver/nvidia/version"] = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\nGCC version:\n"
    )
    files["/sys/class/kfd/kfd/topology/nodes/1/properties"] = (
        f"simd_count 416\nlocation_id 8448\nunique_id {SECRETS[2]}\ndomain 0\n"
    )
    gpu = {
        "bus_id": "00000000:10:00.0",
        "uuid": f"GPU-{SECRETS[0]}",
        "name": "NVIDIA RTX A6000",
        "memory_bytes": 10**10,
    }
    instance = {"uuid": f"MIG-{SECRETS[0]}", "name": "x", "memory_bytes": 10**9, "errors": {}}
    document = {"outcome": "answered", "devices": [{**gpu, "mig": True, "instances": [instance]}]}
    answers = {("access", path): "yes" for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128")}
    return Machine(files, {**answers, ("nvml", "0000:10:00.0"): document})


def recorded(source: Machine) -> str:
    recorder = Recorder(source)
    ProbeRunner(recorder, probes=[GpuProbe()]).run()
    return recorder.text({})


def test_a_recording_replays_as_the_machine_was() -> None:
    source = machine()
    replay = RecordingSource(recorded(source))
    assert read_all(replay, gpu_devices(replay)) == read_all(source, gpu_devices(source))


def test_no_serial_number_of_a_gpu_is_left_in_a_recording() -> None:
    text = masked(recorded(machine()))
    assert [secret for secret in SECRETS if secret in text] == []
    replay = RecordingSource(text)
    nvidia, amd = read_all(replay, gpu_devices(replay)).findings
    assert (nvidia.uuid, nvidia.memory_bytes, nvidia.usable) == (
        "MIG-00000000-0000-4000-8000-000000000001",
        10**9,
        True,
    )
    assert (amd.uuid, amd.memory_bytes, amd.usable) == ("", 68702699520, True)
