"""Runs calls that may never return, each in a daemon thread and with a timeout.

At most one thread per key stays stuck, and at most `most_stuck` in total. A call that returned late is repeated the
next time, and its late result is used if the repetition is late too. The threads are daemons, because those of a pool
would delay the interpreter's exit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional

__all__ = ["Deadlines", "MissedDeadline"]

_MOST_STUCK = 8  # with more dead mounts than this, another stuck thread is of no use


class MissedDeadline(Exception):  # noqa: N818 - the name states what happened
    """The call did not return in time; the text states the timeout, or that an earlier call is still stuck."""


class _Call:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.timed_out = False
        self.late: Optional[_Call] = None
        self.answer: Any = None
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.answer = self.function()
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self.error = error
        finally:
            self.done.set()

    def outcome(self) -> Any:
        """The returned value, or the raised exception."""
        return self.answer if self.error is None else self.error


class Deadlines:
    """Keeps track of unfinished calls. Safe to use from several threads."""

    def __init__(self, most_stuck: int = _MOST_STUCK) -> None:
        self._most_stuck = most_stuck
        self._unfinished: dict[str, _Call] = {}
        self._returned = threading.Condition()

    @property
    def stuck(self) -> list[str]:
        """The keys of the calls that timed out and have not returned."""
        with self._returned:
            return [key for key, call in self._unfinished.items() if call.timed_out and not call.done.is_set()]

    def call(self, key: str, timeout_seconds: float, function: Callable[[], Any]) -> Any:
        """Return or raise what `function` does, else raise MissedDeadline. A key's unfinished call is not repeated."""
        answer = self.call_all({key: function}, timeout_seconds)[key]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call_all(self, functions: Mapping[str, Callable[[], Any]], timeout_seconds: float) -> dict[str, Any]:
        """Run all functions under one deadline, `most_stuck` at a time; exceptions are returned as results."""
        end = time.monotonic() + timeout_seconds
        started = {key: self._start(key, function, end) for key, function in functions.items()}
        return {key: self._outcome(key, call, end, timeout_seconds) for key, call in started.items()}

    def _outcome(self, key: str, call: Optional[_Call], end: float, timeout_seconds: float) -> Any:
        if call is None:
            return MissedDeadline(f"not tried: {self._most_stuck} other calls are stuck")
        if call.done.wait(0 if call.timed_out else max(0.0, end - time.monotonic())):
            with self._returned:
                self._unfinished.pop(key, None)
            return call.outcome()
        earlier_is_stuck, call.timed_out = call.timed_out, True
        late, call.late = call.late, None
        if late is not None:
            return late.outcome()
        return MissedDeadline(
            "an earlier call is still stuck" if earlier_is_stuck else f"no answer in {timeout_seconds:g} s"
        )

    def _start(self, key: str, function: Callable[[], Any], end: float) -> Optional[_Call]:
        """The unfinished call of `key`, or a new one as soon as there is room; None if there is no room in time."""
        with self._returned:
            earlier = self._unfinished.get(key)
            if earlier is not None and not (earlier.timed_out and earlier.done.is_set()):
                return earlier
            if not self._returned.wait_for(self._has_room, max(0.0, end - time.monotonic())):
                return None
            call = self._unfinished[key] = _Call(function)
            call.late = earlier
        try:
            threading.Thread(target=self._run, args=(call,), name=f"probe {key}", daemon=True).start()
        except RuntimeError:  # no thread can be started: run it without a deadline
            self._run(call)
        return call

    def _has_room(self) -> bool:
        return sum(not call.done.is_set() for call in self._unfinished.values()) < self._most_stuck

    def _run(self, call: _Call) -> None:
        call.run()
        with self._returned:
            self._returned.notify_all()
