"""Calls that may never come back, each made in a daemon thread and waited for only so long.

At most one such thread per key stays stuck, and at most `most_stuck` in all. A call that came back late is made
anew at the next asking, and its late answer stands in when the new one is late too. Daemon threads, because a pool's
threads would hold up the interpreter's exit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional

__all__ = ["Deadlines", "MissedDeadline"]

_MOST_STUCK = 8  # a host with more dead mounts than this learns nothing from one more stuck thread


class MissedDeadline(Exception):  # noqa: N818 - reads as what happened
    """The call did not come back in time; the text says how long was waited, or that it is still out."""


class _Call:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.waited_for = False
        self.late: Optional[_Call] = None
        self.answer: Any = None
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.answer = self.function()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self.error = error
        finally:
            self.done.set()

    def outcome(self) -> Any:
        """The answer, or the exception in its place."""
        return self.answer if self.error is None else self.error


class Deadlines:
    """Keeps the calls that are still out. Safe to use from several threads."""

    def __init__(self, most_stuck: int = _MOST_STUCK) -> None:
        self._most_out = most_stuck
        self._out: dict[str, _Call] = {}
        self._came_back = threading.Condition()

    @property
    def stuck(self) -> list[str]:
        """The keys whose calls were given up and have not come back."""
        with self._came_back:
            return [key for key, call in self._out.items() if call.waited_for and not call.done.is_set()]

    def call(self, key: str, timeout_seconds: float, function: Callable[[], Any]) -> Any:
        """What `function` returns or raises, else MissedDeadline. A call still out under `key` is not made twice."""
        answer = self.call_all({key: function}, timeout_seconds)[key]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call_all(self, functions: Mapping[str, Callable[[], Any]], timeout_seconds: float) -> dict[str, Any]:
        """Every function under one deadline, `most_stuck` at a time; an exception stands in place of an answer."""
        end = time.monotonic() + timeout_seconds
        started = {key: self._start(key, function, end) for key, function in functions.items()}
        return {key: self._outcome(key, call, end, timeout_seconds) for key, call in started.items()}

    def _outcome(self, key: str, call: Optional[_Call], end: float, timeout_seconds: float) -> Any:
        if call is None:
            return MissedDeadline(f"not tried: {self._most_out} other calls are stuck")
        if call.done.wait(0 if call.waited_for else max(0.0, end - time.monotonic())):
            with self._came_back:
                self._out.pop(key, None)
            return call.outcome()
        told_before, call.waited_for = call.waited_for, True
        late, call.late = call.late, None
        if late is not None:
            return late.outcome()
        return MissedDeadline(
            "an earlier call is still stuck" if told_before else f"no answer in {timeout_seconds:g} s"
        )

    def _start(self, key: str, function: Callable[[], Any], end: float) -> Optional[_Call]:
        """The call under `key`: the one that is out, or a new one as soon as there is room; None if there is none."""
        with self._came_back:
            came_late = self._out.get(key)
            if came_late is not None and not (came_late.waited_for and came_late.done.is_set()):
                return came_late
            if not self._came_back.wait_for(self._has_room, max(0.0, end - time.monotonic())):
                return None
            call = self._out[key] = _Call(function)
            call.late = came_late
        try:
            threading.Thread(target=self._run, args=(call,), name=f"probe {key}", daemon=True).start()
        except RuntimeError:  # no more threads here: then without a deadline rather than not at all
            self._run(call)
        return call

    def _has_room(self) -> bool:
        return sum(not call.done.is_set() for call in self._out.values()) < self._most_out

    def _run(self, call: _Call) -> None:
        call.run()
        with self._came_back:
            self._came_back.notify_all()
