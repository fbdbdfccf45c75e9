"""A real agent whose clock is set while it runs: by a small library put before the C library's clock_gettime."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.agent.running import RunningAgent
from tests.needs import need_program

SOURCE = Path(__file__).with_name("moved_clock.c")
HOUR = 3600.0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = need_program("gcc", "gcc")
    built = tmp_path_factory.mktemp("clock") / "moved_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SOURCE, "-ldl"], check=True)
    return built


class MovableClock:
    """The file that the library reads: seconds to add to the wall clock, and to the clock that counts sleep."""

    def __init__(self, path: Path, library: Path) -> None:
        path.write_bytes(struct.pack("dd", 0.0, 0.0))
        self.environ = {"LD_PRELOAD": str(library), "MOVED_CLOCK_FILE": str(path)}
        self._path = path

    def move(self, wall: float = 0.0, boot: float = 0.0) -> None:
        with self._path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("dd", wall, boot), 0)


@pytest.fixture
def clock(tmp_path: Path, library: Path) -> MovableClock:
    return MovableClock(tmp_path / "offsets", library)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR, 20 * 365 * 24 * HOUR])
def test_a_clock_that_is_set_does_not_stop_the_reports(seconds: float, clock: MovableClock, tmp_path: Path) -> None:
    with RunningAgent(tmp_path / "state", environ=clock.environ) as agent:
        agent.wait_for_reports(2)
        clock.move(wall=seconds)
        agent.wait_for_reports(5)
        agent.wait_for_log("the clock was set")
        clock.move()
        agent.wait_for_reports(5)
        assert agent.stop()[0] == 0


def test_after_a_sleep_it_reports_at_once(clock: MovableClock, tmp_path: Path) -> None:
    with RunningAgent(tmp_path / "state", environ=clock.environ) as agent:
        agent.wait_for_reports(2)
        clock.move(wall=8 * HOUR, boot=8 * HOUR)
        agent.wait_for_log("the machine slept for 28800 s")
        agent.wait_for_reports(5)
        assert "the clock was set" not in agent.log
