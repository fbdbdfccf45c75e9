"""Signals as messages that a main loop reads. Make the inbox before anything slow: an early SIGHUP ends the process.

While `stop_at_once` is set (the process is starting), SIGTERM and SIGINT raise StopRequested wherever the program is.
Afterwards they only wait in the inbox, so that they interrupt nothing halfway.
"""

from __future__ import annotations

import select
import signal
import socket
from collections import deque
from types import FrameType
from typing import Optional

__all__ = ["SignalInbox", "StopRequested"]


class StopRequested(BaseException):
    """SIGTERM or SIGINT arrived while the process was starting. It is no Exception, so that no handler catches it."""


class SignalInbox:
    """Catches SIGTERM, SIGINT and SIGHUP as soon as it is made. It must be made in the main thread."""

    def __init__(self) -> None:
        self.stop_at_once = True
        self._arrived: deque[signal.Signals] = deque()
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        # The interpreter writes a byte for every signal, which ends a select(). A handler that took a lock, as
        # threading.Event.set does, could find the lock taken and block for ever.
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: Optional[FrameType]) -> None:
        arrived = signal.Signals(number)
        self._arrived.append(arrived)
        if self.stop_at_once and arrived is not signal.SIGHUP:
            raise StopRequested(arrived.name)

    def wake(self) -> None:
        """End a `wait` from any thread."""
        try:
            self._writer.send(b"\0")
        except (BlockingIOError, OSError):  # full: the wait ends anyway; closed: no call is waiting
            return

    def wait(self, seconds: float) -> None:
        """Return after `seconds` (of the monotonic clock), at a signal, or when `wake` is called."""
        select.select([self._reader], [], [], max(0.0, seconds))
        try:
            while self._reader.recv(512):
                pass
        except BlockingIOError:
            return

    def take(self) -> Optional[signal.Signals]:
        """The oldest signal not yet taken, or None."""
        return self._arrived.popleft() if self._arrived else None

    def close(self) -> None:
        """Close the sockets. The handlers stay and only store what arrives."""
        self.stop_at_once = False
        signal.set_wakeup_fd(-1)  # another file may get this number
        for end in (self._reader, self._writer):
            end.close()
