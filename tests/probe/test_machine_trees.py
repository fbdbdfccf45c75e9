"""Trees of /proc and /sys of real machines, replayed: DUXNET_MACHINE_TREES names a folder of them, or of tar archives.

util-linux, hwloc and ghw have such trees among their own tests. None is kept here; what one of them teaches becomes a
small recording. What is not in a tree (calls) is answered as little as can be, and not judged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Optional

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.parsers.cpu import cpu_list
from agent.probe.parsers.meminfo import meminfo
from agent.probe.recording import Recorder, RecordingSource
from agent.probe.render import explained, table
from agent.probe.report import ProbeReport
from agent.probe.runner import ProbeRunner

VARIABLE = "DUXNET_MACHINE_TREES"
FOLDER = os.environ.get(VARIABLE, "")
TREES = sorted(path for path in Path(FOLDER).iterdir() if path.is_dir() or ".tar" in path.name) if FOLDER else []
ARCHITECTURES = (
    ("arm64", "aarch64"), ("aarch64", "aarch64"), ("armv7", "armv7l"), ("arm", "aarch64"), ("gb10", "aarch64"),
    ("loongarch", "loongarch64"), ("ppc", "ppc64le"), ("rv64", "riscv64"), ("s390", "s390x"), ("sparc64", "sparc64"),
    ("ia64", "ia64"),
)  # fmt: skip


class TreeSource(LiveSource):
    """The files of a tree; of the calls only what its files imply."""

    def __init__(self, root: Path, architecture: str) -> None:
        super().__init__(str(root))
        self.root = root
        self._architecture = architecture

    def online(self) -> frozenset[int]:
        """The CPUs that the tree says can run something."""
        told = cpu_list(self.read_text("/sys/devices/system/cpu/online"))
        if told:
            return told
        numbers = re.findall(r"(?m)^processor\s*:?\s*(\d+)\s*:", self.read_text("/proc/cpuinfo") or "")
        folders = [name for name in self.list_dir("/sys/devices/system/cpu") if re.fullmatch(r"cpu\d+", name)]
        return frozenset(range(len(numbers) or len(folders)))

    def ask(self, question: str, argument: str = "") -> Any:
        answers = {
            "affinity": sorted(self.online()) or None,
            "cpu_count": len(self.online()),
            "uname": ["Linux", "tree", "6.1.0", "#1", self._architecture],
            "nearest_existing": argument,
            "disk_usage": {"total": 100, "used": 40, "free": 50, "inodes": 9, "inodes_available": 8},
            "interfaces": [],
            "access": "yes" if (self.root / argument.lstrip("/")).exists() else "missing",
        }
        return answers.get(question)


def opened(tree: Path, folder: Path) -> Path:
    """The folder that holds proc or sys, at most one level down."""
    if not tree.is_dir():
        with tarfile.open(tree) as archive:
            safe = [member for member in archive.getmembers() if not member.isdev()]
            archive.extractall(folder, members=safe, filter="tar")
        tree = folder
    for candidate in (tree, *sorted(tree.iterdir())):
        if (candidate / "proc").is_dir() or (candidate / "sys").is_dir():
            return candidate
    pytest.fail(f"{tree} holds neither proc nor sys")


@pytest.fixture(params=TREES, ids=lambda path: path.name.partition(".tar")[0])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> TreeSource:
    name = request.param.name
    architecture = next((told for word, told in ARCHITECTURES if word in name), "x86_64")
    return TreeSource(opened(request.param, tmp_path), architecture)


def run(source: Any) -> ProbeReport:
    return ProbeRunner(source, ProbeOptions("/")).run()


def by_lscpu(root: Path) -> dict[str, str]:
    """What lscpu makes of the same tree; the first of several kinds of CPU. Empty where it is not installed."""
    if shutil.which("lscpu") is None:
        return {}
    done = subprocess.run(["lscpu", "--sysroot", str(root), "--json"], capture_output=True, text=True)
    found: dict[str, str] = {}

    def walk(items: list[dict[str, Any]]) -> None:
        for item in items:
            found.setdefault(item["field"].rstrip(":"), item["data"] or "")
            walk(item.get("children", []))

    if done.returncode == 0:
        walk(json.loads(done.stdout)["lscpu"])
    return found


def whole(text: Optional[str]) -> int:
    return int(text) if text and text.isdigit() else 0


@pytest.mark.slow
@pytest.mark.skipif(not TREES, reason=f"needs {VARIABLE}, the folder of machine trees")
def test_a_real_machine_is_told_without_a_wrong_word(source: TreeSource) -> None:
    report = run(source)
    told = {reading.name: reading.value for reading in report.readings}
    reasons = {failure.message for failure in report.errors}
    assert not [message for message in reasons if "Error" in message or "Errno" in message], reasons
    assert not [failure for failure in report.errors if failure.raw is not None], reasons

    online = source.online()
    assert told.get("cpu_cores") == (len(online) or None)
    if told.get("physical_cores"):
        assert (told["cpu_sockets"] or 1) <= told["physical_cores"] <= told["host_cpus"]
    total = meminfo(source.read_text("/proc/meminfo")).get("MemTotal")
    if total:
        assert 0 < told["memory_gb"] <= round(total / 1e9, 3)
    assert told.get("cpu_model") is None or told["cpu_model"].strip()
    for gpu in told["gpus"] or []:
        assert gpu["usable"] is (not gpu["reason"])
    text = table(report, everything=True) + explained(report)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(table(report).split("\n")) <= 40

    said = by_lscpu(source.root)
    if not online or not said:
        return
    assert cpu_list(said["On-line CPU(s) list"]) == online
    cores, sockets = whole(said.get("Core(s) per socket")), whole(said.get("Socket(s)"))
    if cores and sockets and told.get("cpu_sockets") and told["architecture"] in ("x86_64", "loongarch64"):
        assert (told["physical_cores"], told["cpu_sockets"]) == (cores * sockets, sockets)
    if "CPU max MHz" in said and told["architecture"] == "x86_64":
        assert told["cpu_max_mhz"] == round(float(said["CPU max MHz"]))
    names = {"KVM": "kvm", "pHyp": "powervm", "Oracle": "oracle", "VMware": "vmware", "Xen": "xen", "IBM": None}
    vendor = said.get("Hypervisor vendor")
    if vendor in names:
        assert told["virtual_machine"] in (names[vendor], "qemu" if vendor == "KVM" else names[vendor])


@pytest.mark.slow
@pytest.mark.skipif(not TREES, reason=f"needs {VARIABLE}, the folder of machine trees")
def test_its_recording_replays_to_the_same(source: TreeSource) -> None:
    recorder = Recorder(source)
    first = run(recorder)
    again = run(RecordingSource(recorder.text({})))
    assert again.to_plain() == first.to_plain()
