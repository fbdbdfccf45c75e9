"""The GPU probe over time: what it remembers of a sleeper, and when it asks to be run again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from agent.probe.gpu import nvml_call
from agent.probe.gpu.nvml_call import NvmlCaller
from agent.probe.gpu.pci_ids import look_up
from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.probes.gpu import GpuProbe
from agent.probe.probes.host import HostProbe
from agent.probe.runner import ProbeRunner
from agent.probe.source import Source
from agent.probe.system_calls import QUESTIONS
from tests.probe.gpu.conftest import library_environment
from tests.probe.gpu.machine import Machine, pci_files

BUS = "0000:10:00.0"
STATUS = f"/sys/bus/pci/devices/{BUS}/power/runtime_status"
GPU = {"bus_id": "00000000:10:00.0", "uuid": "GPU-1", "name": "NVIDIA RTX", "memory_bytes": 8 * 10**9, "mig": False}


def machine(status: str, version: str = "550.54.15", document: Any = None) -> Machine:
    files = pci_files(BUS, 0x10DE, 0x2520, 0x030000, "nvidia", power__runtime_status=status + "\n")
    files["/proc/driver/nvidia/version"] = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue\n"
    answer = document or {"outcome": "answered", "devices": [GPU], "system": {"driver_version": version}}
    return Machine(files, {("access", "/dev/nvidiactl"): "yes", ("nvml", BUS): answer})


def told(probe: GpuProbe, source: Machine) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one GPU and its details."""
    readings = {reading.name: reading.value for reading in probe.read(source, ProbeOptions())[0]}
    return readings["gpus"][0], readings["gpu_details"][0]


def test_a_sleeper_is_told_as_it_was_when_it_was_last_awake() -> None:
    probe = GpuProbe()
    awake, _ = told(probe, machine("active"))
    asleep = machine("suspended")
    assert told(probe, asleep)[0] == awake
    assert told(probe, asleep)[1]["note"] == "left asleep: reported as it was when last awake"
    assert not any(item.startswith("nvml") for item in asleep.asked)


def test_what_was_remembered_ends_with_the_driver_it_was_told_by() -> None:
    probe = GpuProbe()
    told(probe, machine("active"))
    gpu, details = told(probe, machine("suspended", version="560.35.03"))
    assert (gpu["memory_gb"], gpu["driver_version"], details["asleep"]) == (0.0, "560.35.03", True)


def test_trouble_when_it_was_last_awake_is_trouble_while_it_sleeps() -> None:
    probe = GpuProbe()
    mismatch = {"outcome": "answered", "failed": {"call": "nvmlInit", "code": 18}}
    told(probe, machine("active", document=mismatch))
    gpu, _ = told(probe, machine("suspended"))
    assert (gpu["usable"], gpu["reason"].partition(":")[0]) == (False, "version-mismatch")


def test_the_fingerprint_changes_with_devices_drivers_and_module() -> None:
    probe = GpuProbe()
    base = machine("active")
    other_driver = Machine(pci_files(BUS, 0x10DE, 0x2520, 0x030000, "vfio-pci"))
    prints = [probe.fingerprint(source) for source in (base, other_driver, machine("active", "560.35.03"), Machine({}))]
    assert len(set(prints)) == len(prints)
    assert probe.fingerprint(machine("active")) == prints[0]
    assert not any(item.startswith("nvml") for item in base.asked)


def test_waking_asks_for_a_new_look_only_until_it_was_seen_awake() -> None:
    probe = GpuProbe()
    told(probe, machine("suspended"))
    assert probe.fingerprint(machine("suspended")) != probe.fingerprint(machine("active"))
    told(probe, machine("active"))
    assert probe.fingerprint(machine("suspended")) == probe.fingerprint(machine("active"))


class Changing(Source):
    """A machine on which something happens between two looks."""

    def __init__(self, now: Machine) -> None:
        self.now = now

    def read_text(self, path: str) -> Optional[str]:
        return self.now.read_text(path)

    def list_dir(self, path: str) -> list[str]:
        return self.now.list_dir(path)

    def read_link(self, path: str) -> Optional[str]:
        return self.now.read_link(path)

    def ask(self, question: str, argument: str = "") -> Any:
        return self.now.ask(question, argument)


def test_a_changed_driver_makes_the_gpus_be_asked_at_the_next_run_of_any_probe() -> None:
    source = Changing(Machine(pci_files(BUS, 0x10DE, 0x2520, 0x030000, "vfio-pci")))
    runner = ProbeRunner(source, probes=[GpuProbe(), HostProbe()])
    assert not runner.run().capabilities.gpu_enabled
    source.now = machine("active")
    assert runner.run(["host"]).capabilities.gpu_enabled
    source.now = machine("active")
    runner.run(["host"])
    assert not any(item.startswith("nvml") for item in source.now.asked)


def test_a_probe_that_was_never_asked_for_does_not_run_by_itself() -> None:
    source = machine("active")
    ProbeRunner(source, probes=[GpuProbe(), HostProbe()]).run(["host"])
    assert not any(item.startswith("nvml") for item in source.asked)


def test_nonsense_from_the_library_is_an_error_and_no_capability() -> None:
    for nonsense in (2**64 - 1, -1):
        document = {"outcome": "answered", "devices": [{**GPU, "memory_bytes": nonsense}]}
        report = ProbeRunner(machine("active", document=document), probes=[GpuProbe()]).run()
        (gpu,) = report.capabilities.gpus
        assert (gpu.usable, gpu.memory_gb, report.capabilities.gpu_enabled) == (False, 0.0, False)
        assert [failure.raw for failure in report.errors] == [nonsense]


def test_absurd_memory_travels_from_the_library_to_an_error(fake_library: Path) -> None:
    environment = library_environment(fake_library, "memory=18446744073709551615")
    document = NvmlCaller(environment=environment).ask((BUS,))
    report = ProbeRunner(machine("active", document=document), probes=[GpuProbe()]).run()
    assert [failure.raw for failure in report.errors] == [2**64 - 1]
    assert not report.capabilities.gpu_enabled


def test_this_machine_is_asked_without_harm(monkeypatch: pytest.MonkeyPatch, fake_library: Path) -> None:
    # the live question goes through the environment of the process, as on a host with the library installed
    for name, value in library_environment(fake_library, "healthy").items():
        monkeypatch.setitem(os.environ, name, value)
    nvml_call._this_machine.cache_clear()
    assert [device["index"] for device in LiveSource().ask("nvml", "")["devices"]] == [0, 1]
    assert LiveSource().ask("access", "/nowhere/at/all") == "missing"


def test_access_tells_apart_what_is_missing_denied_and_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node").touch()
    assert QUESTIONS["access"](str(tmp_path / "node")) == "yes"
    assert QUESTIONS["access"](str(tmp_path / "other")) == "missing"
    # root may open everything, so a refusal has to be played: only the existence is granted
    monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.F_OK)
    assert QUESTIONS["access"](str(tmp_path / "node")) == "denied"


def test_names_are_looked_up_in_the_first_list_that_the_host_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "pci.ids"
    listed.write_text("10de  NVIDIA Corporation\n\t20b2  GA100 [A100 SXM4 80GB]\n")
    # where distributions keep the list is a constant: the test has a host of its own
    monkeypatch.setattr("agent.probe.gpu.pci_ids._PLACES", (str(tmp_path / "none"), str(listed)))
    assert look_up("10DE:20b2") == ["NVIDIA Corporation", "GA100 [A100 SXM4 80GB]"]
    monkeypatch.setattr("agent.probe.gpu.pci_ids._PLACES", ())
    assert look_up("10de:20b2") is None


def test_a_machine_without_gpus_loads_no_reader() -> None:
    names = ["agent.probe.gpu.nvml_call", "agent.probe.gpu.nvidia", "agent.probe.gpu.amd", "agent.probe.gpu.intel"]
    program = (
        "import sys; from agent.probe.runner import ProbeRunner; from agent.probe.recording import RecordingSource; "
        f"ProbeRunner(RecordingSource('')).run(['gpu']); print([name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
