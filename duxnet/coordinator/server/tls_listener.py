"""TLS before there is an HTTP connection: the handshakes under way, each with its time and all with a bound.

Here: whose connection is taken, and how long a handshake may last. Not here: what is spoken afterwards (`protocol`),
which certificate (`server`). Whoever connects and says nothing costs a file; such ones count against the limit of
connections, and where that is reached, who has waited longest goes: an honest peer is through within a moment.
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
"""60 KiB each. A loop that does all it can has a few hundred under way, if its peers answer within a second."""
SPARE_CONNECTIONS = 64
"""So many handshakes there may always be, and so many connections beyond the limit that are told to come again."""
TAKEN_AT_ONCE = 64
"""New connections in one turn of the loop; a heartbeat waits for no more."""
PAUSE_SECONDS = 0.5
"""After the system had no file for a connection."""


class Handshakes:
    """Takes connections from `listener` and makes one of ours of each; `connections` are those that are through.

    uvicorn, and the loop's own server below it, would give each a minute and count none.
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
        self._is_told = False
        self._is_closed = False

    def open(self, backlog: int) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._take)

    def close(self) -> None:
        """Listen no more, and give up those under way. The listener itself is its owner's to close."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        for task in list(self._under_way):
            self._give_up(task)

    def _take(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                taken, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file, no memory: it would fail again at once
                self._make_room(error)
                return
            self._is_told = False
            self._begin(taken)

    def _make_room(self, error: OSError) -> None:
        if self._under_way:
            self._give_up(next(iter(self._under_way)))  # its file is free in the next turn
            return
        if not self._is_told:
            _log.error("a connection cannot be taken: %s", error.strerror or error)
        self._is_told = True
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._take)

    def _begin(self, taken: socket.socket) -> None:
        if len(self._connections) >= self._most_connections + SPARE_CONNECTIONS:
            taken.close()  # those beyond the limit were told, and do not go
            return
        room = min(MOST_HANDSHAKES, self._most_connections - len(self._connections))
        while len(self._under_way) >= max(SPARE_CONNECTIONS, room):
            self._give_up(next(iter(self._under_way)))
        taken.setblocking(False)
        task = self._loop.create_task(self._shake(taken))
        self._under_way[task] = None
        task.add_done_callback(partial(self._done, taken))

    async def _shake(self, taken: socket.socket) -> None:
        await self._loop.connect_accepted_socket(
            self._make_connection, taken, ssl=self._context, ssl_handshake_timeout=HEAD_SECONDS
        )

    def _give_up(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        task.cancel()

    def _done(self, taken: socket.socket, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if task.cancelled():
            taken.close()  # perhaps the loop had not even begun with it
            return
        error = task.exception()
        if error is not None:
            taken.close()
            if not isinstance(error, OSError):  # too slow, no TLS, or gone; ssl.SSLError is one
                _log.error("a handshake failed: %r", error)
