"""Every core busy and memory tight: the agent, within the limits of its unit, still reports in time and lives.

Real groups, made as root: one stands for a machine with little memory, in it one with the limits of the unit and one
for the work, which takes all that it can get until the kernel kills it, again and again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import psutil
import pytest

from duxnet.service.units import AGENT, unit_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.xdist_group("timing")]

CGROUPS = Path("/sys/fs/cgroup")
INTERVAL_SECONDS = 1.0
LOAD_SECONDS = 15.0
MACHINE_BYTES = 400_000_000

IN_GROUPS = 'for tasks in $GROUPS_TO_JOIN; do echo $$ > $tasks/cgroup.procs; done; exec "$@"'
# The unit lowers the agent's score by 500, for which not every root has the right; raising the other's is the same.
HOG = """
open("/proc/self/oom_score_adj", "w").write("500")
kept = []
while True:
    kept.append(bytearray(8 << 20))
"""
BURN = "while True: pass"


class Groups:
    """The group `name` in each hierarchy with a controller that matters here."""

    def __init__(self, name: str) -> None:
        if "memory" in _words(CGROUPS / "cgroup.subtree_control"):
            self.folders = {"memory": CGROUPS / name, "pids": CGROUPS / name}
            self.version = 2
        else:
            self.folders = {controller: CGROUPS / controller / name for controller in ("memory", "pids")}
            self.version = 1

    def make(self) -> None:
        for folder in set(self.folders.values()):
            folder.mkdir()

    def remove(self) -> None:
        for folder in set(self.folders.values()):
            folder.rmdir()

    def give_on(self) -> None:
        """Let groups below have limits of their own."""
        if self.version == 2:
            (self.folders["memory"] / "cgroup.subtree_control").write_text("+memory +pids")

    def limit(self, memory_bytes: int, tasks: Optional[int] = None) -> None:
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        (self.folders["memory"] / name).write_text(str(memory_bytes))
        if tasks is not None:
            (self.folders["pids"] / "pids.max").write_text(str(tasks))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Run a Python in these groups."""
        joined = " ".join(str(folder) for folder in set(self.folders.values()))
        environ = {**os.environ, "GROUPS_TO_JOIN": joined}
        run = ["sh", "-c", IN_GROUPS, "sh", sys.executable, *command]
        return subprocess.Popen(run, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


@contextmanager
def made(name: str) -> Iterator[Groups]:
    groups = Groups(name)
    try:
        groups.make()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here: {error}")
    try:
        yield groups
    finally:
        groups.remove()


@contextmanager
def busy_cores() -> Iterator[None]:
    """Two processes a core that do nothing but compute."""
    burning = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


class Work:
    """Takes memory until it is killed, and begins again."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.killed = 0

    def __enter__(self) -> Work:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.is_set():
            hog = self._groups.start("-c", HOG)
            while hog.poll() is None and not self._stop.wait(0.05):
                pass
            if hog.poll() is None:
                hog.kill()
            else:
                self.killed += 1
            hog.wait()


def limit_of_the_unit(key: str) -> str:
    (value,) = re.findall(rf"^{key}=(.*)$", unit_text(AGENT, Path("/x/duxnet")), re.MULTILINE)
    return str(value)


def wait_for_reports(state: Path, agent: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not (state / "agent.json").exists():
        assert agent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ages_of_reports(state: Path, seconds: float) -> list[float]:
    """How old the newest report was, looked at again and again."""
    ages = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        written = json.loads((state / "agent.json").read_text())["written_boottime_seconds"]
        ages.append(time.clock_gettime(time.CLOCK_BOOTTIME) - written)
        time.sleep(0.1)
    return ages


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to make control groups")
def test_with_every_core_busy_and_memory_tight_the_agent_reports_in_time_within_its_limits(tmp_path: Path) -> None:
    name = f"duxnet-test-{uuid.uuid4().hex[:8]}"
    memory_bytes = int(limit_of_the_unit("MemoryMax").rstrip("M")) << 20
    with made(name) as machine:
        machine.limit(MACHINE_BYTES)
        machine.give_on()
        with made(f"{name}/{AGENT.service}") as service, made(f"{name}/work") as work:
            service.limit(memory_bytes, int(limit_of_the_unit("TasksMax")))
            main = "import sys; from duxnet.cli import main; sys.exit(main())"
            agent = service.start(
                "-c", main, "agent", "--state-dir", str(tmp_path), "--interval", str(INTERVAL_SECONDS)
            )  # fmt: skip
            assert limit_of_the_unit("OOMScoreAdjust") == "-500"
            try:
                with Work(work) as tight, busy_cores():
                    wait_for_reports(tmp_path, agent)
                    ages = ages_of_reports(tmp_path, LOAD_SECONDS)
                    resident = psutil.Process(agent.pid).memory_info().rss
                assert agent.poll() is None, "killed by its own limits"
                assert tight.killed > 0, "memory was not tight"
                assert max(ages) < 3 * INTERVAL_SECONDS, "silent for so long that a registry would call it down"
                assert resident < memory_bytes / 2
            finally:
                agent.terminate()
                agent.wait(timeout=10)
