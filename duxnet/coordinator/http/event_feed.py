"""Delivers the registry's events to waiting callers. Each event is encoded once for all of them.

Here: waiting and encoding. Not here: the number of waiting callers (`places`), HTTP (`routes.monitoring`), the events
(`registry_core.events`).
"""

from __future__ import annotations

import asyncio
from typing import Optional

import msgspec

from registry_core.events import RING_SIZE, Event, EventRing
from registry_core.models.times import time_to_text

__all__ = ["EventFeed"]

GATHERED_SECONDS = 0.05
"""Delay before waiting callers are woken. Many events within this time wake each caller only once."""
MOST_EVENTS = 1000
"""Maximum number of events in one page, and in one chunk of a stream."""


class EventFeed:
    """Used in one event loop; any thread may add events to the ring."""

    def __init__(self, ring: EventRing) -> None:
        self._ring = ring
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_waking = False  # a wake-up is scheduled
        self._encoded: dict[int, msgspec.Raw] = {}
        self._frames = (0, 0, b"")  # the newest chunk of a stream: the index before it, its last index, its bytes
        self.is_closed = False
        ring.watch(self._changed)

    def close(self) -> None:
        """End all current and later waits, because the coordinator stops."""
        self.is_closed = True
        self._wake()

    async def wait(self, index: int, seconds: float) -> None:
        """Wait for an event after `index`, for at most `seconds`."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)  # before the ring is checked, so that no event is missed
        timer = self._loop.call_later(seconds, _end, future)
        try:
            if self._ring.last_index <= index and not self.is_closed:
                await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def page(self, index: int) -> tuple[list[msgspec.Raw], int]:
        """Returns the next events after `index` as JSON, and the index of the last one. Raises EventsCompacted."""
        found = self._ring.after(index)[:MOST_EVENTS]
        return [self._of(event) for event in found], found[-1].index if found else index

    def frames(self, index: int) -> tuple[bytes, int]:
        """As `page`, but returns one chunk of a stream of server-sent events."""
        if self._frames[0] != index or self._frames[1] < self._ring.last_index:
            found = self._ring.after(index)[:MOST_EVENTS]
            pieces = [b"id: %d\nevent: node.%b\ndata: %b\n\n" % (e.index, e.kind.encode(), self._of(e)) for e in found]
            self._frames = (index, found[-1].index if found else index, b"".join(pieces))
        return self._frames[2], self._frames[1]

    def _of(self, event: Event) -> msgspec.Raw:
        text = self._encoded.get(event.index)
        if text is None:
            if len(self._encoded) >= RING_SIZE:
                self._encoded.clear()
            plain = {
                "index": event.index,
                "at": time_to_text(event.at),
                "kind": event.kind.value,
                "node_id": event.node_id,
                "details": dict(event.details),
            }
            text = self._encoded[event.index] = msgspec.Raw(msgspec.json.encode(plain))
        return text

    def _changed(self) -> None:
        """Called in any thread."""
        if self._waiting and not self._is_waking and self._loop is not None:
            self._is_waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake_soon, self._loop)
            except RuntimeError:  # the loop was closed, so no caller waits in it
                self._is_waking = False

    def _wake_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(GATHERED_SECONDS, self._wake)

    def _wake(self) -> None:
        self._is_waking = False
        for future in self._waiting:
            _end(future)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
