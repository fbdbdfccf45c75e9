"""The schedule under clocks that jump. APScheduler reads the wall clock by itself, so its own is replaced here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from datetime import datetime, timezone, tzinfo
from typing import Any, Optional

import pytest

from agent.schedule import Clocks, Schedule, phase_seconds

START = 1_800_000_000.0
HOUR = 3600.0


class MovedClocks(Clocks):
    """Clocks that stand until they are moved."""

    def __init__(self) -> None:
        self.now_seconds, self.awake_seconds, self.asleep_seconds = START, 1000.0, 0.0

    def wall(self) -> float:
        return self.now_seconds

    def monotonic(self) -> float:
        return self.awake_seconds

    def boot(self) -> float:
        return self.awake_seconds + self.asleep_seconds

    def pass_by(self, seconds: float) -> None:
        self.now_seconds += seconds
        self.awake_seconds += seconds

    def set_wall(self, seconds: float) -> None:
        self.now_seconds += seconds

    def sleep(self, seconds: float) -> None:
        self.now_seconds += seconds
        self.asleep_seconds += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> MovedClocks:
    moved = MovedClocks()

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Optional[tzinfo] = None) -> Any:
            return datetime.fromtimestamp(moved.wall(), tz)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Moved)  # it takes no clock: there is no other seam
    monkeypatch.setattr("apscheduler.triggers.interval.datetime", Moved)
    return moved


class Counted:
    """A job that counts its runs; `wanted` waits for the thread that runs it."""

    def __init__(self) -> None:
        self.runs = 0
        self._ran: queue.Queue[threading.Thread] = queue.Queue()

    def __call__(self) -> None:
        self.runs += 1
        self._ran.put(threading.current_thread())

    def started(self) -> threading.Thread:
        return self._ran.get(timeout=5)

    def wait(self) -> None:
        self.started().join(5)


@pytest.fixture
def job() -> Counted:
    return Counted()


@pytest.fixture
def schedule(clocks: MovedClocks, job: Counted) -> Iterator[Schedule]:
    made = Schedule(lambda: None, clocks)
    made.every("sample", 15.0, 5.0, job)
    yield made
    made.stop()


def runs_in(schedule: Schedule, clocks: MovedClocks, job: Counted, seconds: float) -> int:
    """How often the job runs while a loop waits as the schedule says, for `seconds` of true time."""
    before, end = job.runs, clocks.awake_seconds + seconds
    while True:
        wait = schedule.run_due()
        expected = job.runs
        if clocks.awake_seconds + wait > end:
            clocks.pass_by(end - clocks.awake_seconds)
            return job.runs - before
        clocks.pass_by(wait)
        schedule.run_due()
        job.wait()
        assert job.runs == expected + 1


def test_a_job_runs_at_its_interval_and_at_its_phase(schedule: Schedule, clocks: MovedClocks, job: Counted) -> None:
    wait = schedule.run_due()
    assert (clocks.wall() + wait) % 15 == pytest.approx(5)
    assert runs_in(schedule, clocks, job, 150) == 10


def test_a_clock_set_back_an_hour_changes_nothing(schedule: Schedule, clocks: MovedClocks, job: Counted) -> None:
    runs_in(schedule, clocks, job, 30)
    clocks.set_wall(-HOUR)
    assert schedule.run_due() <= 15
    assert runs_in(schedule, clocks, job, 150) == 10


def test_a_clock_set_forward_thirty_years_costs_no_run_and_no_time(
    schedule: Schedule, clocks: MovedClocks, job: Counted
) -> None:
    runs_in(schedule, clocks, job, 30)
    clocks.set_wall(30 * 365 * 24 * HOUR)  # a board without a battery learns the time
    assert schedule.run_due() <= 15
    assert runs_in(schedule, clocks, job, 150) == 10


def test_after_a_sleep_the_job_runs_at_once_and_only_once(
    schedule: Schedule, clocks: MovedClocks, job: Counted
) -> None:
    runs_in(schedule, clocks, job, 30)
    before = job.runs
    clocks.sleep(8 * HOUR)
    schedule.run_due()
    job.wait()
    assert job.runs == before + 1
    assert runs_in(schedule, clocks, job, 150) == 10


def test_a_loop_that_comes_late_runs_the_job_once(schedule: Schedule, clocks: MovedClocks, job: Counted) -> None:
    schedule.run_due()
    clocks.pass_by(100)
    schedule.run_due()
    job.wait()
    assert job.runs == 1
    assert schedule.seconds_to_next() <= 15


def test_a_job_that_hangs_is_not_started_twice_and_this_is_said(
    clocks: MovedClocks, caplog: pytest.LogCaptureFixture
) -> None:
    release, ran = threading.Event(), Counted()

    def hang() -> None:
        ran()
        release.wait(10)

    schedule = Schedule(lambda: None, clocks)
    schedule.every("sample", 15.0, 0.0, hang)
    other = Counted()
    schedule.every("probe", 15.0, 0.0, other)
    for _ in range(4):
        clocks.pass_by(15)
        schedule.run_due()
        other.wait()
    assert ran.runs == 1
    assert other.runs == 4
    assert "sample is still running" in caplog.text
    assert schedule.is_progressing()
    release.set()
    schedule.stop()


def test_a_run_that_is_left_out_says_what_the_one_before_is_at(
    clocks: MovedClocks, caplog: pytest.LogCaptureFixture
) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(10)

    schedule = Schedule(lambda: None, clocks)
    schedule.every("sample", 15.0, 0.0, hang, lambda: "report")
    for _ in range(2):
        clocks.pass_by(15)
        schedule.run_due()
        assert begun.wait(5)
    assert "report is still running: its next run is skipped" in caplog.text
    release.set()
    schedule.stop()


def test_a_job_that_fails_is_told_and_runs_again(clocks: MovedClocks, caplog: pytest.LogCaptureFixture) -> None:
    ran = Counted()

    def fail() -> None:
        ran()
        raise OSError("no such thing")

    schedule = Schedule(lambda: None, clocks)
    schedule.every("probe", 15.0, 0.0, fail)
    for _ in range(2):
        clocks.pass_by(15)
        schedule.run_due()
        ran.wait()
    assert ran.runs == 2
    schedule.stop()


def test_a_replaced_job_keeps_to_its_new_interval(schedule: Schedule, clocks: MovedClocks, job: Counted) -> None:
    runs_in(schedule, clocks, job, 30)
    schedule.every("sample", 5.0, 0.0, job)
    assert runs_in(schedule, clocks, job, 50) == 10


def test_a_schedule_that_lost_its_plan_is_not_progressing(
    schedule: Schedule, clocks: MovedClocks, job: Counted
) -> None:
    schedule.run_due()
    assert schedule.is_progressing()
    clocks.set_wall(-HOUR)  # not yet noticed: as APScheduler alone would see it
    assert not schedule.is_progressing()
    schedule.run_due()
    assert schedule.is_progressing()


def test_the_phase_is_stable_for_a_node_and_spread_over_nodes() -> None:
    phases = [phase_seconds(f"node-{number}", 15.0) for number in range(1000)]
    assert phases == [phase_seconds(f"node-{number}", 15.0) for number in range(1000)]
    assert all(0 <= phase < 15 for phase in phases)
    thirds = [sum(low <= phase < low + 5 for phase in phases) for low in (0, 5, 10)]
    assert min(thirds) > 280


def test_the_real_clocks_agree_with_the_system() -> None:
    clocks = Clocks()
    assert abs(clocks.wall() - datetime.now(timezone.utc).timestamp()) < 5
    assert clocks.boot() >= clocks.monotonic() - 0.001
