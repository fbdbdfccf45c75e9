"""The registry's events for those who wait for them: woken when there is one, each event encoded once for all.

Here: waiting and encoding. Not here: who may wait (`places`), HTTP (`routes.monitoring`), the events (`events`).
"""

from __future__ import annotations

import asyncio
from typing import Optional

import msgspec

from registry_core.events import RING_SIZE, Event, EventRing
from registry_core.models.times import time_to_text

__all__ = ["EventFeed"]

GATHERED_SECONDS = 0.05
"""Delay before waiting callers are woken, for all that happened meanwhile: a storm of events costs one wake-up each."""
MOST_EVENTS = 1000
"""Events in one page, and in one piece of a stream."""


class EventFeed:
    """Belongs to one event loop; events may be added to the ring in any thread."""

    def __init__(self, ring: EventRing) -> None:
        self._ring = ring
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_waking = False  # a wake-up is on its way
        self._encoded: dict[int, msgspec.Raw] = {}
        self._frames = (0, 0, b"")  # the newest piece of a stream: the index before it, its last index, the text
        self.is_closed = False
        ring.watch(self._changed)

    def close(self) -> None:
        """End all waits, now and from now on: the coordinator stops."""
        self.is_closed = True
        self._wake()

    async def wait(self, index: int, seconds: float) -> None:
        """Return when there is an event after `index`, at the latest after `seconds`."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)  # before the look at the ring, so that no event comes in between
        timer = self._loop.call_later(seconds, _end, future)
        try:
            if self._ring.last_index <= index and not self.is_closed:
                await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def page(self, index: int) -> tuple[list[msgspec.Raw], int]:
        """The next events after `index` as JSON, and the last one's index. Raises EventsCompacted."""
        found = self._ring.after(index)[:MOST_EVENTS]
        return [self._of(event) for event in found], found[-1].index if found else index

    def frames(self, index: int) -> tuple[bytes, int]:
        """As `page`, as one piece of a stream of server-sent events."""
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
        """In any thread."""
        if self._waiting and not self._is_waking and self._loop is not None:
            self._is_waking = True
            try:
                self._loop.call_soon_threadsafe(self._wake_soon, self._loop)
            except RuntimeError:  # the loop was closed, and no caller waits in it any more
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
