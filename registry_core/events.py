"""The registry's recent events: a bounded ring buffer, numbered by a rising index, that callers can wait on.

Which changes are events is decided by the commands that add them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Callable

from registry_core.errors import EventsCompacted
from registry_core.models import limits

__all__ = ["Event", "EventKind", "EventRing"]

RING_SIZE = 10_000
"""Number of events kept. A larger ring lets a follower disconnect for longer; each event takes about 400 bytes."""

INDEX_STEP_AT_START = 1_000_000_000
"""How far the index jumps at a start: more than the number of events possible between two commits of the index."""

MAX_WAIT_SECONDS = 600.0


class EventKind(str, Enum):
    """The kind of change."""

    REGISTERED = "registered"
    UPDATED = "updated"
    DEREGISTERED = "deregistered"
    HEALTH = "health"
    LIVENESS = "liveness"
    ADMISSION = "admission"
    SCHEDULING = "scheduling"
    REPUTATION = "reputation"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Event:
    """One change. `at` is UTC; `details` describes the change, such as {"from": "live", "to": "down"}."""

    index: int
    at: datetime
    kind: EventKind
    node_id: str
    details: Mapping[str, str]


class EventRing:
    """The newest events. Follow them with `registry.events.after(index)`."""

    def __init__(self, last_index: int = 0, size: int = RING_SIZE) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._last_index = last_index
        self._changed = threading.Condition()
        self._closed = False
        self._watchers: tuple[Callable[[], None], ...] = ()

    def watch(self, call: Callable[[], None]) -> None:
        """Have `call` called after each change, in the thread that made it and under a lock: it must not wait."""
        with self._changed:
            self._watchers = (*self._watchers, call)

    @property
    def last_index(self) -> int:
        """The index of the newest event. Pass it to `after` to get only later events."""
        return self._last_index

    def after(self, index: int, wait_seconds: float = 0.0) -> list[Event]:
        """Events with a higher index, oldest first; if there are none, waits up to `wait_seconds` for the first.

        Raises EventsCompacted when some of these events are no longer kept, or when `index` belongs to another
        registry: read the whole list again, then follow from `last_index`.
        """
        limits.integer("index", index, 0, 2**63 - 1)
        limits.number("wait_seconds", wait_seconds, 0, MAX_WAIT_SECONDS)
        with self._changed:
            self._refuse_gap(index)
            if wait_seconds and index == self._last_index and not self._closed:
                self._changed.wait_for(lambda: self._last_index > index or self._closed, wait_seconds)
                self._refuse_gap(index)
            wanted = min(self._last_index - index, len(self._events))
            return [self._events[place] for place in range(len(self._events) - wanted, len(self._events))]

    def add(self, at: datetime, kind: EventKind, node_id: str, details: Mapping[str, str]) -> None:
        """Number and keep an event, and wake waiting callers."""
        with self._changed:
            self._last_index += 1
            self._events.append(Event(self._last_index, at, kind, node_id, details))
            self._wake()

    def restart(self, last_index: int) -> None:
        """Drop all events and continue from a higher index, after the store was reread."""
        with self._changed:
            self._events.clear()
            self._last_index = max(last_index, self._last_index)
            self._wake()

    def close(self) -> None:
        """Wake waiting callers; no more events will follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wake(self) -> None:
        self._changed.notify_all()
        for call in self._watchers:
            call()

    def _refuse_gap(self, index: int) -> None:
        oldest = self._last_index - len(self._events) + 1
        if index < oldest - 1 or index > self._last_index:
            raise EventsCompacted(index, oldest)
