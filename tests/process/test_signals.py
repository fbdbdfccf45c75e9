"""Signals as messages: kept, in order, and able to end a wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from duxnet.process.signals import SignalInbox, StopRequested

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


@pytest.fixture
def inbox() -> Iterator[SignalInbox]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    made = SignalInbox()
    yield made
    signal.set_wakeup_fd(-1)
    for number, handler in kept.items():
        signal.signal(number, handler)
    made.close()


def test_a_signal_ends_a_wait_and_can_be_taken_once(inbox: SignalInbox) -> None:
    inbox.stop_at_once = False
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begun = time.monotonic()
    inbox.wait(30)
    assert time.monotonic() - begun < 10
    timer.join()
    assert inbox.take() is signal.SIGTERM
    assert inbox.take() is None


def test_signals_keep_their_order(inbox: SignalInbox) -> None:
    inbox.stop_at_once = False
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert [inbox.take(), inbox.take()] == [signal.SIGHUP, signal.SIGTERM]


def test_while_starting_sigterm_stops_at_once_and_sighup_waits(inbox: SignalInbox) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(StopRequested, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert inbox.take() is signal.SIGHUP


def test_another_thread_can_end_a_wait(inbox: SignalInbox) -> None:
    inbox.wake()
    begun = time.monotonic()
    inbox.wait(30)
    assert time.monotonic() - begun < 10


def test_many_wakes_do_not_block_and_leave_nothing_behind(inbox: SignalInbox) -> None:
    for _ in range(100_000):
        inbox.wake()
    inbox.wait(30)
    begun = time.monotonic()
    inbox.wait(0.01)
    assert time.monotonic() - begun >= 0.01


def test_after_the_end_a_signal_is_noted_and_written_to_nobody_elses_file(inbox: SignalInbox) -> None:
    inbox.close()
    reader, writer = os.pipe()  # these take the numbers that the sockets had
    try:
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        os.kill(os.getpid(), signal.SIGTERM)  # and not StopRequested: nobody is left to catch it
        assert inbox.take() is signal.SIGTERM
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)
