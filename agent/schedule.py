"""The schedule of jobs: APScheduler, corrected for changes of the wall clock, in the process's main thread.

APScheduler 3 plans by the wall clock. If the clock is set back an hour, it sleeps that hour; if it is set forward a
year (a board without a battery), it counts every run that it missed. Therefore each wake-up first compares the wall
clock with the monotonic one and moves the plan by the difference. Jobs run in daemon threads, so that a hung disk
blocks neither the schedule nor the exit.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.job import Job
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.interval import IntervalTrigger

__all__ = ["Clocks", "Schedule", "phase_seconds"]

_log = logging.getLogger("agent.schedule")

STEP_SECONDS = 0.5  # a larger step against the monotonic clock: the clock was set, or the machine slept
LONGEST_WAIT_SECONDS = 3600.0


class Clocks:
    """The three clocks that a schedule compares, in seconds; tests replace them."""

    def wall(self) -> float:
        """The wall clock, which can be set."""
        return time.time()

    def monotonic(self) -> float:
        """The monotonic clock, which stops while the machine sleeps."""
        return time.monotonic()

    def boot(self) -> float:
        """Like `monotonic`, but it continues while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def phase_seconds(node_id: str, interval_seconds: float) -> float:
    """The offset in the interval at which this node acts: the same at every start, evenly spread over all nodes."""
    share = int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:8], "big") / 2**64
    return share * interval_seconds


class Schedule:
    """Runs named jobs, each at its interval and at this node's phase, one instance of each at a time.

    The owner's loop calls `run_due` and waits at most the returned time; `wake` ends that wait.
    """

    def __init__(self, wake: Callable[[], None], clocks: Optional[Clocks] = None) -> None:
        self._clocks = clocks or Clocks()
        self._scheduler = _Planner(wake)
        self._scheduler.add_executor(_DaemonThreads())
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)
        self._scheduler.add_listener(self._succeeded, EVENT_JOB_EXECUTED)
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.start()
        self._intervals: dict[str, float] = {}
        self._doing: dict[str, Callable[[], str]] = {}
        self._failures: Counter[str] = Counter()  # of each job, since it last ended well
        self._offset = self._clocks.wall() - self._clocks.monotonic()
        self._slept = self._clocks.boot() - self._clocks.monotonic()

    def every(
        self,
        name: str,
        interval_seconds: float,
        phase: float,
        run: Callable[[], None],
        doing: Optional[Callable[[], str]] = None,
    ) -> None:
        """Call `run` every `interval_seconds`, at the given phase; replaces a job with the same name.

        `doing` returns what the run is doing now, for the log line when the next run is due before it has ended. By
        default it is the name.
        """
        now = self._clocks.wall()
        first = now + interval_seconds - (now - phase) % interval_seconds
        self._intervals[name] = interval_seconds
        self._doing[name] = doing or (lambda: name)
        self._scheduler.add_job(
            run,
            IntervalTrigger(seconds=interval_seconds, start_date=_moment(first), timezone=timezone.utc),
            id=name,
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,  # a late run is better than none; the default drops it after a second
            next_run_time=_moment(first),
        )

    def drop_all(self) -> None:
        """Remove every job; running ones continue."""
        self._intervals.clear()
        self._scheduler.remove_all_jobs()

    def soon(self, name: str) -> None:
        """Run a job now, and afterwards at its interval."""
        self._scheduler.modify_job(name, next_run_time=_moment(self._clocks.wall()))

    def run_due(self) -> float:
        """Start the jobs that are due; returns the seconds until the next one."""
        self._follow_the_clock()
        self._scheduler.process()
        return self.seconds_to_next()

    def seconds_to_next(self, name: Optional[str] = None) -> float:
        """Seconds until the next run of `name`, or of any job; never negative."""
        jobs: list[Job] = self._scheduler.get_jobs()
        times = [job.next_run_time.timestamp() for job in jobs if name in (None, job.id) and job.next_run_time]
        return max(0.0, min(times) - self._clocks.wall()) if times else LONGEST_WAIT_SECONDS

    def is_progressing(self) -> bool:
        """True if every job is planned within two of its intervals: the schedule works, even if jobs hang."""
        waits = {name: self.seconds_to_next(name) for name in self._intervals}
        return all(wait <= 2 * self._intervals[name] for name, wait in waits.items())

    def failures(self, name: str) -> int:
        """How often the job has failed since it last ended well."""
        return self._failures[name]

    def stop(self) -> None:
        """Start no more jobs; running ones continue."""
        self._scheduler.shutdown(wait=False)

    def _follow_the_clock(self) -> None:
        monotonic = self._clocks.monotonic()
        offset, slept = self._clocks.wall() - monotonic, self._clocks.boot() - monotonic
        moved, asleep = offset - self._offset, slept - self._slept
        self._offset, self._slept = offset, slept
        if abs(moved) > STEP_SECONDS:
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=job.next_run_time + timedelta(seconds=moved))
        if asleep > STEP_SECONDS:
            _log.info("the machine slept for %.0f s", asleep)
            for name in self._intervals:
                self.soon(name)
        stepped = moved - asleep
        if abs(stepped) > STEP_SECONDS:
            _log.warning("the clock was set %s by %.1f s", "forward" if stepped > 0 else "back", abs(stepped))

    def _succeeded(self, event: JobExecutionEvent) -> None:
        self._failures[event.job_id] = 0

    def _failed(self, event: JobExecutionEvent) -> None:
        self._failures[event.job_id] += 1
        _log.error("%s failed: %r\n%s", event.job_id, event.exception, event.traceback)

    def _skipped(self, event: JobSubmissionEvent) -> None:
        _log.warning("%s is still running: its next run is skipped", self._doing[event.job_id]())


class _Planner(BaseScheduler):  # type: ignore[misc]  # APScheduler ships no types
    """The part of APScheduler that determines which jobs are due; the owner waits."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        super().__init__(timezone=timezone.utc)

    def wakeup(self) -> None:
        self._wake()

    def process(self) -> None:
        self._process_jobs()

    def shutdown(self, wait: bool = True) -> None:  # abstract in the base class, which also implements it
        super().shutdown(wait)


class _DaemonThreads(BaseExecutor):  # type: ignore[misc]  # as above
    """A daemon thread for each run. concurrent.futures would join a hung one at exit."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        threading.Thread(target=self._run, args=(job, run_times), name=job.id, daemon=True).start()

    def _run(self, job: Any, run_times: list[datetime]) -> None:
        events = run_job(job, job._jobstore_alias, run_times, self._logger.name)  # noqa: SLF001 - as its own executors do
        self._run_job_success(job.id, events)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc)
