"""The HTTP/1.1 connection: limits that uvicorn does not have, and a fast path for heartbeats and lists.

Here: refusing bytes that are no acceptable request, and answering heartbeats and reads directly. Not here: what they
mean (`routes.heartbeat`), the size of other bodies (`front`), routes. A heartbeat and most reads never wait, so they
need neither a task nor ASGI messages, which cost more than all the work of a heartbeat. Any unusual request takes the
ordinary path through the application and gets the same answer. One sweep over the open connections finds slow and idle
peers, so that a request needs no timer.
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus
from typing import Any, Optional, Union, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from duxnet.coordinator.access.forwarding import FORWARDING_HEADERS
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.front import PREPARED, Dispatcher, Matched
from duxnet.coordinator.http.messages import Receive, Request, Response, Scope, Send, send_problem
from duxnet.coordinator.http.problem_answers import ProblemAnswer, answer_to
from duxnet.coordinator.http.security_headers import API_SECURITY, header_lines
from registry_core.wire.shapes import MAX_HEARTBEAT_BYTES

__all__ = ["MOST_CONNECTIONS", "BoundedProtocol", "sweep_connections"]

MOST_CONNECTIONS = 20_000
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
MOST_PIPELINED = 32
"""Maximum number of requests on one connection that wait for an earlier answer, 1 KiB or more each."""
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
IDLE_SECONDS = 75.0
"""Longer than an agent's usual interval: a new connection costs as much as 3 heartbeats, with TLS 30 or more."""
CROWDED_IDLE_SECONDS = 2.0
"""The idle limit when three quarters of the maximum number of connections are open, 10 KiB each."""
STUCK_SECONDS = 30.0
"""How long a peer may read nothing of its answer, which is kept in memory until then."""
MOST_UNSENT_BYTES = 256 * 2**20
"""Maximum size of all unsent answers together. Beyond it, the connections with the largest are closed."""
PIECE_BYTES = 64 * 1024
"""A longer answer is written in pieces of this size: over TLS, flow control would not pause a single large write."""
SWEEP_SECONDS = 2.0
STOPPED_SECONDS = 5.0
"""Retry-After of a request that was waiting when the coordinator stopped."""

_PREFIX = b"/v1/nodes/"
_SUFFIX = b"/heartbeat"
_SECURITY = header_lines(API_SECURITY)
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + _SECURITY + b"content-length: %d\r\n\r\n%b"
_IDLE, _HEAD, _BODY = 0, 1, 2
_VERSIONS = ("1.1", "1.0")
_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_UNUSUAL_HEADERS = frozenset({b"expect", b"upgrade", b"origin", b"content-encoding"})
_LEAVES_LANE = frozenset({*_UNUSUAL_HEADERS, b"authorization", b"content-type"})  # the last two: when repeated
_LEAVES_LANE_UNNAMED = _LEAVES_LANE | FORWARDING_HEADERS
"""A request with one of these takes the ordinary path. Configured proxies may send the forwarding headers."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class _JoinedWrites:
    """A transport that joins an answer's head and the start of its body into one write.

    This saves a system call and a packet for nearly all answers. The head is written in the loop's next turn at the
    latest, so a stream's head does not wait for the first event.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: Optional[bytes] = None  # b"": it is written

    def write(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._loop.call_soon(self._flush)
        elif self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `late_at` is the loop time by which the current request must be complete; None: there is none.

    `idle_since` is when the last request was answered, if no other has begun since. `unsent_bytes` is the size of the
    unsent answer at the last sweep; `stuck_since` is when it last got smaller.
    """

    late_at: Optional[float] = None
    idle_since: Optional[float] = None
    stuck_since: Optional[float] = None
    unsent_bytes = 0
    _kept_bytes = 0  # of the answer that is being written
    _phase = _IDLE
    _head_bytes = 0
    _line_bytes = 0  # since the parser's last callback: part of an incomplete line
    _refusal = "malformed"
    _reason = ""
    _is_open = False
    _leaves_lane = _LEAVES_LANE_UNNAMED
    _version: Optional[str] = None  # of the first request; it does not change later
    _host: Optional[bytes] = None  # the last one that was accepted
    _read: Optional[Matched] = None  # the route of a GET in the fast path
    _node_id: Optional[str] = None  # of a heartbeat in the fast path
    _authorization = _content_type = b""
    _heartbeat_body = b""

    def __init__(
        self,
        *args: Any,
        dispatcher: Dispatcher,
        most_connections: int = MOST_CONNECTIONS,
        **named: Any,
    ) -> None:
        super().__init__(*args, **named)
        self._application, self.app = self.app, cast("Any", self._served)
        self._dispatcher = dispatcher
        self._heartbeats = dispatcher.heartbeats
        self._earlier: list[RequestResponseCycle] = []  # all but the last request; some may be unanswered
        self._most_connections = most_connections

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application and sends its long answers in pieces, each after the one before is written."""
        has_begun = False

        async def send_in_pieces(message: dict[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            body: bytes = message.get("body", b"")
            gone = 0
            while len(body) - gone > PIECE_BYTES:
                self._kept_bytes = len(body) - gone
                await send({**message, "body": body[gone : gone + PIECE_BYTES], "more_body": True})
                gone += PIECE_BYTES
            self._kept_bytes = 0
            await send({**message, "body": body[gone:]} if gone else message)

        try:
            await self._application(cast("Any", scope), cast("Any", receive), cast("Any", send_in_pieces))
        except asyncio.CancelledError:  # the process stops; a change that waits for the disk may still succeed
            if not has_begun:
                refused = Refused("busy", "the coordinator is stopping", retry_after_seconds=STOPPED_SECONDS)
                await send_problem(send, answer_to(refused, scope["path"]))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        if len(self.connections) > self._most_connections:
            self.refuse("busy", "too many connections", retry_after_seconds=1 + secrets.randbelow(5))
            return
        self.late_at = self.loop.time() + HEAD_SECONDS
        self._is_open = self._heartbeats.is_open_to(self.scheme or "http", self._peer())
        if self._dispatcher.is_proxy(self._peer()):
            self._leaves_lane = _LEAVES_LANE

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.late_at = self.idle_since = None
        super().connection_lost(exc)
        for cycle in self._earlier:  # uvicorn notifies the last only; the others would write to a closed transport
            cycle.disconnected = True
            cycle.message_event.set()
        # Break the reference cycles, so that the memory is freed at once and not by the garbage collector.
        self.app, self.cycle = self._application, cast("Any", None)
        self._earlier.clear()
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        self._line_bytes += len(data)
        super().data_received(data)
        if self._phase is _IDLE or self.parser is None:
            return
        if self.late_at is None:
            self.late_at = self.loop.time() + (HEAD_SECONDS if self._phase is _HEAD else BODY_SECONDS)
        if self._head_bytes + self._line_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.refuse("headers-too-large")  # an endless header or trailer reaches no callback

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.late_at = self.idle_since = None
        self._phase = _HEAD
        self._head_bytes = self._line_bytes = 0
        self._node_id = self._read = None

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._line_bytes = 0
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = "headers-too-large"
            raise ValueError("the URL is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _HEAD:  # else a trailer, which must not count as a header: proxies do not check it
            self.headers.append((name.lower(), value))
        self._line_bytes = 0
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refusal = "headers-too-large"
            raise ValueError("too many headers")  # httptools wraps it; send_400_response answers

    def on_headers_complete(self) -> None:
        self.late_at = None
        self._head_bytes = self._line_bytes = 0
        if self.parser.should_upgrade() and any(
            name in _BODY_HEADERS and value != b"0" for name, value in self.headers
        ):
            self._reason = "header upgrade: is not allowed in a request with a body"
            raise ValueError(self._reason)  # the parser would treat the body as upgraded data
        if self._version is None:
            self._version = self.parser.get_http_version()
            if self._version not in _VERSIONS:
                self._reason = "only HTTP/1.1 and HTTP/1.0 are supported"
                raise ValueError(self._reason)
        if self._is_open and self.url.startswith(_PREFIX) and self._enters_lane():
            self._phase = _BODY
            return
        if self._is_open:
            self._read = self._immediate()
            if self._read is not None:
                self._phase = _BODY
                return
        self._begin_request()

    def _refuse_unusual_line(self) -> None:
        """Raise ValueError for a request line that other programs could read differently."""
        if b"#" in self.url:
            self._reason = "the URL must not have a fragment"
        elif not self.url.startswith(b"/") and self.url != b"*":
            scheme, _, rest = self.url.partition(b"://")
            named = [value.lower() for name, value in self.headers if name == b"host"]
            if scheme.lower() in (b"http", b"https") and named == [rest.partition(b"/")[0].partition(b"?")[0].lower()]:
                return
            self._reason = "the URL and the header host name different hosts"
        else:
            return
        raise ValueError(self._reason)

    def _begin_request(self) -> None:
        """Pass the request to the application, through uvicorn."""
        if not self.url.startswith(b"/") or b"#" in self.url:
            self._refuse_unusual_line()
        if self._is_answering():
            if len(self._earlier) >= MOST_PIPELINED:
                raise ValueError("too many requests on this connection wait for their answers")
            self._earlier.append(self.cycle)
        self._read = None
        url, headers = self.url, self.headers
        super().on_message_begin()  # skipped in the fast path
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        self.cycle.transport = cast("Any", _JoinedWrites(self.transport, self.loop))
        self._phase = _BODY

    def _enters_lane(self) -> bool:
        """Is it an ordinary heartbeat, and no other request is in progress? Stores its headers."""
        if not self.url.endswith(_SUFFIX):
            return False
        node_id = self.url[len(_PREFIX) : -len(_SUFFIX)]
        if not node_id or b"/" in node_id or b"%" in node_id or b"?" in node_id or b"#" in node_id:
            return False
        if self.parser.get_method() != b"PUT" or self.flow.write_paused:
            return False
        if self._is_answering():
            return False
        authorization = content_type = b""
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"authorization" and not authorization:
                authorization = value
            elif name == b"content-type" and not content_type:
                content_type = value
            elif name in self._leaves_lane:
                return False
        if hosts != 1:
            return False
        self._authorization, self._content_type = authorization, content_type
        self._heartbeat_body = b""
        self._node_id = node_id.decode("ascii", "replace")
        return True

    def _immediate(self) -> Optional[Matched]:
        """Returns the route if it answers at once and no other request is in progress, else None."""
        if self.parser.get_method() != b"GET" or self.flow.write_paused or self._is_answering():
            return None
        hosts = []
        has_token = False
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"authorization" and not has_token:
                has_token = True
            elif (
                name == b"authorization"
                or name in _UNUSUAL_HEADERS
                or name in _BODY_HEADERS
                or name in FORWARDING_HEADERS
            ):
                return None
        if hosts != [self._host] and not self._knows_host(hosts):
            return None
        path = self.url.partition(b"?")[0]
        if b"%" in path or b"#" in self.url or not self.url.isascii():
            return None
        return self._dispatcher.find_immediate(path.decode("ascii"))

    def _knows_host(self, hosts: list[bytes]) -> bool:
        """Is there exactly one Host, and is it accepted? The result is kept for the connection."""
        try:
            if len(hosts) != 1 or not self._dispatcher.accepts_host(hosts[0]):
                return False
        except Refused:  # the application answers with the reason
            return False
        self._host = hosts[0]
        return True

    def _answer_read(self, matched: Matched) -> None:
        """Answer at once. A long answer, or one that must be awaited, is sent through uvicorn."""
        path, _, query_string = self.url.partition(b"?")
        request = Request("GET", path.decode("ascii"), query_string, self.headers, client=self._peer())
        answer = self._dispatcher.answer(matched, request)
        if type(answer) is not Response or len(answer.body) > PIECE_BYTES:
            self._begin_request()
            cast("Any", self.scope)[PREPARED] = answer  # its task has not started yet
            super().on_message_complete()
            return
        keep_alive = self.parser.should_keep_alive()
        self.transport.write(_written(answer, keep_alive=keep_alive))
        if keep_alive:
            self.idle_since = self.loop.time()
        else:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._line_bytes = 0
        if self._node_id is None:
            super().on_body(body)
            return
        self._heartbeat_body += body
        if len(self._heartbeat_body) > MAX_HEARTBEAT_BYTES:
            self._refusal = "too-large"
            raise ValueError(f"a heartbeat body has at most {MAX_HEARTBEAT_BYTES} bytes")

    def on_message_complete(self) -> None:
        self.late_at = None
        self._phase = _IDLE
        if self._read is not None:
            self._answer_read(self._read)
            self._read = None
            return
        if self._node_id is None:
            super().on_message_complete()
            self._rest()  # if the answer was sent before the body arrived
            return
        node_id, self._node_id = self._node_id, None
        answer = self._heartbeats.answer(node_id, self._authorization, self._content_type, self._heartbeat_body)
        keep_alive = self.parser.should_keep_alive()
        if type(answer) is bytes and keep_alive:
            self.transport.write(_OK % (len(answer), answer))
        else:
            self.transport.write(_response(answer, keep_alive=keep_alive))
        if keep_alive:
            self.idle_since = self.loop.time()
        else:
            self.transport.close()

    def _peer(self) -> Optional[str]:
        return self.client[0] if self.client is not None else None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep replaces this timer, which would keep closed connections
        self._rest()

    def _is_answering(self) -> bool:
        """Is an answer of the application missing or incomplete?"""
        last: Optional[RequestResponseCycle] = self.cycle
        return last is not None and not last.response_complete

    def _rest(self) -> None:
        if not self._is_answering():
            self._earlier.clear()
            if self._phase is _IDLE:
                self.idle_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for a request that cannot be parsed. Answers with a problem."""
        self.refuse(self._refusal, self._reason or msg)

    def refuse(self, kind_name: str, detail: str = "", *, retry_after_seconds: Optional[float] = None) -> None:
        """Answer with a problem and close. Only close if the client would read it as part of another answer."""
        self.late_at = None
        answers_this = not self._is_answering()
        if self._phase is _BODY and self._node_id is None and self._read is None:
            answers_this = not self.pipeline and not self.cycle.response_started
        if answers_this:
            refused = Refused(kind_name, detail, retry_after_seconds=retry_after_seconds)
            self.transport.write(_response(answer_to(refused), keep_alive=False))
        self.transport.close()

    def sweep(self, now: float, longest_idle_seconds: float) -> None:
        """Close the connection if the peer is late, idle for too long, or reads nothing."""
        if self._is_stuck(now):
            self.transport.abort()  # close() would wait until everything is sent
        elif self.late_at is not None and self.late_at < now:
            if self.flow.read_paused or (self._phase is _HEAD and self._is_answering()):  # it waits for us
                self.late_at = now + HEAD_SECONDS
            else:
                self.refuse("too-slow")
        elif self.idle_since is not None and self.idle_since < now - longest_idle_seconds:
            self.transport.close()

    def _is_stuck(self, now: float) -> bool:
        if not (self.flow.write_paused or self.transport.is_closing()):
            self.stuck_since, self.unsent_bytes = None, 0
            return False
        before, self.unsent_bytes = self.unsent_bytes, self.transport.get_write_buffer_size() + self._kept_bytes
        if self.stuck_since is None or self.unsent_bytes < before:
            self.stuck_since = now
        return now - self.stuck_since > STUCK_SECONDS


def _response(answer: Union[bytes, ProblemAnswer], *, keep_alive: bool) -> bytes:
    """A heartbeat's answer as HTTP/1.1 bytes."""
    if isinstance(answer, ProblemAnswer):
        status, headers, body = answer.status, dict(answer.headers), answer.body
    else:
        status, headers, body = 200, {"content-type": "application/json"}, answer
    headers["content-length"] = str(len(body))
    if not keep_alive:
        headers["connection"] = "close"
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, ""]).encode("latin-1") + _SECURITY + b"\r\n" + body


def _written(answer: Response, *, keep_alive: bool) -> bytes:
    """A route's answer as HTTP/1.1 bytes."""
    parts = [_STATUS_LINES[answer.status]]
    for name, value in answer.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(_SECURITY if answer.security is API_SECURITY else header_lines(answer.security))
    parts.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    parts.append(answer.body)
    return b"".join(parts)


async def sweep_connections(connections: set[BoundedProtocol], most_connections: int = MOST_CONNECTIONS) -> None:
    """Close connections that are late with a request, idle or stuck. Runs until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = loop.time()
        longest_idle = IDLE_SECONDS if 4 * len(connections) <= 3 * most_connections else CROWDED_IDLE_SECONDS
        for connection in list(connections):
            connection.sweep(now, longest_idle)
        _give_up_largest(connections)


def _give_up_largest(connections: set[BoundedProtocol]) -> None:
    total = sum(connection.unsent_bytes for connection in connections)
    if total <= MOST_UNSENT_BYTES:
        return
    for connection in sorted(connections, key=lambda each: each.unsent_bytes, reverse=True):
        connection.transport.abort()
        total -= connection.unsent_bytes
        if total <= MOST_UNSENT_BYTES:
            return
