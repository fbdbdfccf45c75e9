"""A real control group, made here as root: what the probe says inside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


PYTHON_IN_GROUP = """
import os, sys
for tasks in sys.argv[1].split(","):
    with open(tasks, "w") as file:
        file.write(str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-c",
    "import sys; from duxnet.cli import main; sys.exit(main(sys.argv[1:]))", *sys.argv[2:]])
"""


class Groups:
    """The same group in every hierarchy that matters: one folder under v2, one for each controller under v1."""

    def __init__(self, folders: dict[str, Path], version: int) -> None:
        self.folders = folders
        self.version = version

    def limit(self, quota: str, memory: str) -> None:
        if self.version == 2:
            (self.folders["unified"] / "cpu.max").write_text(f"{quota} 100000")
            (self.folders["unified"] / "memory.max").write_text(memory)
        else:
            (self.folders["cpu"] / "cpu.cfs_quota_us").write_text(quota)
            (self.folders["memory"] / "memory.limit_in_bytes").write_text(memory)

    def below(self, name: str) -> Groups:
        folders = {controller: folder / name for controller, folder in self.folders.items()}
        for folder in folders.values():
            folder.mkdir()
        return Groups(folders, self.version)

    def probe(self, *arguments: str) -> dict[str, Any]:
        """What a `duxnet probe` says that runs inside."""
        tasks = ",".join(str(folder / "cgroup.procs") for folder in self.folders.values())
        command = [
            sys.executable,
            "-c",
            PYTHON_IN_GROUP,
            tasks,
            "probe",
            "--only",
            "cpu,memory",
            "--format",
            "json",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        return {reading["name"]: reading for reading in report["readings"]} | {"report": report}


def controllers_v1() -> dict[str, Path]:
    found = {}
    for controller in ("cpu", "memory"):
        for folder in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup/cpu,cpuacct")):
            if folder.name.startswith(controller) and (folder / "cgroup.procs").exists():
                found[controller] = folder
    return found


@pytest.fixture
def groups() -> Iterator[Groups]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root to make a control group")
    name = f"duxnet-test-{uuid.uuid4().hex[:8]}"
    unified = Path("/sys/fs/cgroup")
    if {"cpu", "memory"} <= set(_read(unified / "cgroup.subtree_control").split()):
        made = Groups({"unified": unified / name}, 2)
    elif len(controllers_v1()) == 2:
        made = Groups({controller: folder / name for controller, folder in controllers_v1().items()}, 1)
    else:
        pytest.skip("no cgroup hierarchy here whose cpu and memory controllers can be used")
    try:
        for folder in made.folders.values():
            folder.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    if made.version == 2:
        (made.folders["unified"] / "cgroup.subtree_control").write_text("+cpu +memory")
    yield made
    for folder in made.folders.values():
        for child in sorted(folder.rglob("*/"), reverse=True):
            if child.is_dir():
                child.rmdir()
        folder.rmdir()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_half_a_cpu_and_one_gibibyte_are_offered_as_one_cpu_and_that_memory(groups: Groups) -> None:
    limited = groups.below("work")
    limited.limit("50000", "1073741824")
    found = limited.probe()
    capabilities = found["report"]["capabilities"]
    assert (capabilities["cpu_cores"], capabilities["cpu_quota"], capabilities["memory_gb"]) == (1, 0.5, 1.074)
    assert "/work/cpu" in found["cpu_cores"]["limited_by"]
    assert "/work/memory" in found["memory_gb"]["limited_by"]
    assert found["memory_gb"]["host"] > 1.074
    assert found["memory_available_gb"]["value"] <= 1.074


def test_a_limit_further_up_binds_although_the_own_group_has_none(groups: Groups) -> None:
    if groups.version == 2:
        outer = groups.below("outer")
        (outer.folders["unified"] / "cgroup.subtree_control").write_text("+cpu +memory")
    else:
        outer = groups.below("outer")
    outer.limit("50000", "1073741824")
    found = outer.below("inner").probe()
    assert found["report"]["capabilities"]["memory_gb"] == 1.074
    assert "/outer/memory" in found["memory_gb"]["limited_by"]
    assert found["report"]["capabilities"]["cpu_quota"] == 0.5


def test_the_limits_of_the_agents_own_service_are_not_the_nodes(groups: Groups) -> None:
    whole = groups.below("beside").probe()["report"]["capabilities"]
    service = groups.below("duxnet-agent.service")
    service.limit("50000", "134217728")
    found = service.probe()["report"]["capabilities"]
    assert (found["cpu_cores"], found["cpu_quota"]) == (whole["cpu_cores"], whole["cpu_quota"])
    assert found["memory_gb"] == whole["memory_gb"]
