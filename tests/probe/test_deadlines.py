"""Calls that hang: told in time, one thread for each, capped, and their late answers are picked up."""

from __future__ import annotations

import threading
import time

import pytest

from agent.probe.deadline import Deadlines, MissedDeadline


def test_a_call_in_time_gives_its_answer_or_its_own_error() -> None:
    deadlines = Deadlines()
    assert deadlines.call("a", 5, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        deadlines.call("a", 5, lambda: 1 // 0)
    assert not deadlines.stuck


def test_a_stuck_call_is_given_up_asked_only_once_and_its_late_answer_is_used() -> None:
    released, asked = threading.Event(), []

    def hang() -> str:
        asked.append(1)
        released.wait()
        return "late"

    deadlines = Deadlines()
    with pytest.raises(MissedDeadline, match=r"no answer in 0\.05 s"):
        deadlines.call("mount", 0.05, hang)
    before = time.monotonic()
    with pytest.raises(MissedDeadline, match="still stuck"):
        deadlines.call("mount", 5, hang)
    assert time.monotonic() - before < 1, "a call that is known to be stuck is not waited for again"
    assert deadlines.stuck == ["mount"]
    released.set()
    deadlines._out["mount"].done.wait(5)
    assert deadlines.call("mount", 5, hang) == "late"
    assert asked == [1]


def test_stuck_threads_are_capped() -> None:
    released = threading.Event()
    deadlines = Deadlines(most_stuck=2)
    calls = {"a": released.wait, "b": released.wait}
    assert all(isinstance(answer, MissedDeadline) for answer in deadlines.call_all(calls, 0.05).values())
    threads = threading.active_count()
    with pytest.raises(MissedDeadline, match="not tried: 2 earlier calls are still stuck"):
        deadlines.call("c", 5, released.wait)
    assert threading.active_count() == threads
    released.set()


def test_all_calls_wait_under_one_deadline_not_one_after_the_other() -> None:
    released = threading.Event()
    before = time.monotonic()
    answers = Deadlines().call_all({str(number): released.wait for number in range(5)}, 0.3)
    assert time.monotonic() - before < 1.2
    assert len(answers) == 5
    released.set()
