"""A listener that limits the number and the duration of TLS handshakes.

Here: accepting connections and timing their handshakes. Not here: HTTP (`connection`), the certificate (`process`). A
peer that connects and sends nothing costs a file descriptor, so handshakes count against the limit of connections. At
the limit, the oldest handshake is closed: an honest peer finishes its own quickly.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from functools import partial
from typing import Any, Callable

from duxnet.coordinator.server.connection import HEAD_SECONDS

__all__ = ["Handshakes"]

_log = logging.getLogger("duxnet.coordinator")

MOST_HANDSHAKES = 5_000
"""60 KiB each. A fully loaded loop has a few hundred in progress, if its peers answer within a second."""
SPARE_CONNECTIONS = 64
"""Handshakes that are always allowed, and connections beyond the limit that get a 503 answer."""
TAKEN_AT_ONCE = 64
"""Maximum number of connections accepted in one turn of the loop, so that heartbeats do not wait longer."""
PAUSE_SECONDS = 0.5
"""The pause after the system had no file descriptor for a connection."""


class Handshakes:
    """Accepts connections from `listener`. `connections` are those whose handshake is done.

    uvicorn and asyncio's own server would give each handshake a minute and would not count them.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        listener: socket.socket,
        make_connection: Callable[[], asyncio.Protocol],
        connections: set[Any],
        most_connections: int,
    ) -> None:
        self._context = context
        self._listener = listener
        self._make_connection = make_connection
        self._connections = connections
        self._most_connections = most_connections
        self._under_way: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._loop: Any = asyncio.get_running_loop()  # typeshed does not know connect_accepted_socket
        self._is_logged = False
        self._is_closed = False

    def open(self, backlog: int) -> None:
        """Start listening."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Stop accepting, and cancel the handshakes in progress. The owner closes the listener itself."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        for task in list(self._under_way):
            self._cancel(task)

    def _accept(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                taken, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptor or memory: it would fail again at once
                self._make_room(error)
                return
            self._is_logged = False
            self._begin(taken)

    def _make_room(self, error: OSError) -> None:
        if self._under_way:
            self._cancel(next(iter(self._under_way)))  # its descriptor is free in the next turn
            return
        if not self._is_logged:
            _log.error("cannot accept a connection: %s", error.strerror or error)
        self._is_logged = True
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _begin(self, taken: socket.socket) -> None:
        if len(self._connections) >= self._most_connections + SPARE_CONNECTIONS:
            taken.close()  # even those that got a 503 answer have not closed
            return
        room = min(MOST_HANDSHAKES, self._most_connections - len(self._connections))
        while len(self._under_way) >= max(SPARE_CONNECTIONS, room):
            self._cancel(next(iter(self._under_way)))
        taken.setblocking(False)
        task = self._loop.create_task(self._shake(taken))
        self._under_way[task] = None
        task.add_done_callback(partial(self._done, taken))

    async def _shake(self, taken: socket.socket) -> None:
        await self._loop.connect_accepted_socket(
            self._make_connection, taken, ssl=self._context, ssl_handshake_timeout=HEAD_SECONDS
        )

    def _cancel(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        task.cancel()

    def _done(self, taken: socket.socket, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if task.cancelled():
            taken.close()  # the handshake may not even have started
            return
        error = task.exception()
        if error is not None:
            taken.close()
            if not isinstance(error, OSError):  # too slow, not TLS, or closed; also ssl.SSLError
                _log.error("a TLS handshake failed: %r", error)
