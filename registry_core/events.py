"""What happened in the registry, in order: a bounded ring with a rising index.

Here: numbering, keeping, waiting. Not here: what counts as an event (each command says so itself), transport.
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
"""Events kept. More lets a follower stay away longer; each costs about 400 bytes."""

INDEX_STEP_AT_START = 1_000_000_000
"""How far the index jumps at a start: more than the soft events that can pass between two commits of the index."""

MAX_WAIT_SECONDS = 600.0


class EventKind(str, Enum):
    """What happened to a node."""

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
    """One change. `at` is UTC; `details` are words that say what it was, such as {"from": "live", "to": "down"}."""

    index: int
    at: datetime
    kind: EventKind
    node_id: str
    details: Mapping[str, str]


class EventRing:
    """The newest events. `registry.events.after(index)` follows them."""

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
        """The index of the newest event; the place from which to follow what happens from now on."""
        return self._last_index

    def after(self, index: int, wait_seconds: float = 0.0) -> list[Event]:
        """Events with a higher index, oldest first; waits up to `wait_seconds` for the first when there is none.

        Raises EventsCompacted when some after `index` are no longer kept, or when `index` is not of this
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
        """Number an event, keep it, wake who waits."""
        with self._changed:
            self._last_index += 1
            self._events.append(Event(self._last_index, at, kind, node_id, details))
            self._wake()

    def restart(self, last_index: int) -> None:
        """Forget what is kept and go on from a higher index: the state was read anew."""
        with self._changed:
            self._events.clear()
            self._last_index = max(last_index, self._last_index)
            self._wake()

    def close(self) -> None:
        """Wake who waits; nothing more will come."""
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
