"""The HTTP/1.1 connection with bounds that uvicorn does not set: how much and how long a request may be.

Here: what is refused before there is a request. Not here: the size of bodies (`gate`), routes. Slow senders are
found by one sweep over the open connections, so that an honest request pays for no timer.
"""

from __future__ import annotations

import asyncio
from typing import Optional

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem, problem_type

__all__ = ["BoundedProtocol", "sweep_slow_connections"]

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
SWEEP_SECONDS = 2.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `late_at` is the loop's time by which what is being received must be whole; None: nothing is."""

    late_at: Optional[float] = None
    _in_head = True
    _head_bytes = 0
    _refusal = "malformed"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self.late_at = self.loop.time() + HEAD_SECONDS

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.late_at = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        began_in_head = self._in_head
        super().data_received(data)
        if began_in_head and self._in_head and self.parser is not None:  # an endless header shows in no callback
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.refuse("headers-too-large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.late_at = self.loop.time() + HEAD_SECONDS
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)
        if len(self.headers) > MAX_HEADERS:
            self._refusal = "headers-too-large"
            raise ValueError("too many headers")  # httptools wraps it; the answer is made in send_400_response

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = "headers-too-large"
            raise ValueError("headers too large")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self.late_at = self.loop.time() + BODY_SECONDS
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.late_at = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that cannot be parsed; here in the shape of every other error."""
        self.refuse(self._refusal, msg)

    def refuse(self, kind_name: str, detail: str = "") -> None:
        """Answer with a problem and close."""
        kind = KINDS[kind_name]
        problem = Problem(problem_type(kind.name), kind.title, kind.status, detail, kind.remedy)
        body = msgspec.json.encode(problem)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
            kind.status,
            _REASONS.get(kind.status, b"Refused"),
            PROBLEM_MEDIA_TYPE.encode("ascii"),
            len(body),
        )
        self.late_at = None
        self.transport.write(head + body)
        self.transport.close()


async def sweep_slow_connections(connections: set[BoundedProtocol]) -> None:
    """Close connections whose request does not become whole in time. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = loop.time()
        for connection in [each for each in connections if each.late_at is not None and each.late_at < now]:
            connection.refuse("too-slow")
