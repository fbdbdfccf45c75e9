"""Calls that hang: told in time, one thread for each, capped, and their late answers are picked up."""

from __future__ import annotations

import threading
import time

import pytest

from agent.probe.deadline import Deadlines, MissedDeadline

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


def test_a_call_in_time_gives_its_answer_or_its_own_error() -> None:
    deadlines = Deadlines()
    assert deadlines.call("a", 5, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        deadlines.call("a", 5, lambda: 1 // 0)
    assert not deadlines.stuck


class Mount:
    """Hangs until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        mine = f"answer {self.asked}"
        self.released.wait()
        return mine


def test_a_stuck_call_is_given_up_and_not_made_twice() -> None:
    mount, deadlines = Mount(), Deadlines()
    with pytest.raises(MissedDeadline, match=r"no answer in 0\.05 s"):
        deadlines.call("mount", 0.05, mount)
    before = time.monotonic()
    with pytest.raises(MissedDeadline, match="still stuck"):
        deadlines.call("mount", 5, mount)
    assert time.monotonic() - before < 1, "a call that is known to be stuck is not waited for again"
    assert deadlines.stuck == ["mount"]
    assert mount.asked == 1
    mount.released.set()


def test_after_a_late_answer_the_question_is_asked_anew() -> None:
    mount, deadlines = Mount(), Deadlines()
    with pytest.raises(MissedDeadline):
        deadlines.call("mount", 0.05, mount)
    mount.released.set()
    deadlines._unfinished["mount"].done.wait(5)
    assert deadlines.call("mount", 5, mount) == "answer 2"


def test_what_is_always_late_gives_its_late_answer_once_and_is_then_told_as_stuck() -> None:
    mount, deadlines = Mount(), Deadlines()
    with pytest.raises(MissedDeadline):
        deadlines.call("mount", 0.05, mount)
    mount.released.set()
    deadlines._unfinished["mount"].done.wait(5)
    mount.released.clear()
    assert deadlines.call("mount", 0.05, mount) == "answer 1"
    with pytest.raises(MissedDeadline, match="still stuck"):
        deadlines.call("mount", 0.05, mount)
    mount.released.set()


def test_stuck_threads_are_capped_also_when_all_are_asked_at_once() -> None:
    released = threading.Event()
    deadlines = Deadlines(most_stuck=2)
    threads = threading.active_count()
    answers = deadlines.call_all({str(number): released.wait for number in range(20)}, 0.1)
    assert threading.active_count() <= threads + 2
    messages = sorted(str(answer) for answer in answers.values())
    assert messages == ["no answer in 0.1 s"] * 2 + ["not tried: 2 other calls are stuck"] * 18
    released.set()


def test_more_calls_than_the_cap_are_all_answered_when_none_is_stuck() -> None:
    answers = Deadlines(most_stuck=2).call_all({str(number): lambda: 7 for number in range(50)}, 10)
    assert list(answers.values()) == [7] * 50


def test_all_calls_wait_under_one_deadline_not_one_after_the_other() -> None:
    released = threading.Event()
    before = time.monotonic()
    answers = Deadlines(most_stuck=40).call_all({str(number): released.wait for number in range(40)}, 0.25)
    assert time.monotonic() - before < 40 * 0.25 / 2
    assert len(answers) == 40
    released.set()
