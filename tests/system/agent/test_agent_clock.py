"""A real agent whose clock is set while it runs: by a small library put before the C library's clock_gettime."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.moved_clock import MovableClock
from tests.support.processes import RunningAgent

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


HOUR = 3600.0


@pytest.fixture
def clock(tmp_path: Path) -> MovableClock:
    return MovableClock(tmp_path)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "seconds", [-HOUR, pytest.param(HOUR, marks=SLOW), pytest.param(20 * 365 * 24 * HOUR, marks=SLOW)]
)
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
