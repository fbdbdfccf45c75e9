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
        self._most_stuck = most_stuck
        self._out: dict[str, _Call] = {}
        self._lock = threading.Lock()

    @property
    def stuck(self) -> list[str]:
        """The keys whose calls were given up and have not come back."""
        with self._lock:
            return [key for key, call in self._out.items() if call.waited_for and not call.done.is_set()]

    def call(self, key: str, timeout_seconds: float, function: Callable[[], Any]) -> Any:
        """What `function` returns or raises, else MissedDeadline. A call still out under `key` is not made twice."""
        answer = self.call_all({key: function}, timeout_seconds)[key]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call_all(self, functions: Mapping[str, Callable[[], Any]], timeout_seconds: float) -> dict[str, Any]:
        """Every function at once under one deadline; an exception stands in place of the answer that it prevented."""
        started = {key: self._start(key, function) for key, function in functions.items()}
        end = time.monotonic() + timeout_seconds
        answers: dict[str, Any] = {}
        for key, call in started.items():
            if call is None:
                answers[key] = MissedDeadline(f"not tried: {self._most_stuck} earlier calls are still stuck")
            elif call.done.wait(0 if call.waited_for else max(0.0, end - time.monotonic())):
                with self._lock:
                    self._out.pop(key, None)
                answers[key] = call.outcome()
            elif call.late is not None:
                answers[key], call.late, call.waited_for = call.late.outcome(), None, True
            else:
                late = "an earlier call is still stuck" if call.waited_for else f"no answer in {timeout_seconds:g} s"
                call.waited_for = True
                answers[key] = MissedDeadline(late)
        return answers

    def _start(self, key: str, function: Callable[[], Any]) -> Optional[_Call]:
        with self._lock:
            call = self._out.get(key)
            if call is not None and not (call.waited_for and call.done.is_set()):
                return call
            came_late = call
            stuck = sum(out.waited_for and not out.done.is_set() for out in self._out.values())
            if stuck >= self._most_stuck:
                return None
            call = self._out[key] = _Call(function)
            call.late = came_late
        threading.Thread(target=call.run, name=f"probe {key}", daemon=True).start()
        return call
