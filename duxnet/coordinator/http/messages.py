"""HTTP requests and answers, and the ASGI messages that carry them.

Here: reading a request, making an answer, sending it. Not here: finding the route (`routing`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar, Union

import msgspec

from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.problem_answers import ProblemAnswer
from duxnet.coordinator.http.security_headers import API_SECURITY

__all__ = [
    "JSON",
    "Answer",
    "Receive",
    "Request",
    "Response",
    "Scope",
    "Send",
    "StreamResponse",
    "body_as",
    "body_of",
    "conditional_json",
    "decoded",
    "json_response",
    "problem_response",
    "refuse_content_type",
    "send_json",
    "send_problem",
    "send_response",
    "while_there",
]

T = TypeVar("T")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = b"application/json"
_NO_BODY = (204, 304)
"""Statuses of answers without body and Content-Length."""


class Request:
    """A request as routes read it. `path` is decoded and includes the mount point; header names are lower case.

    `client` is the address of the connection's other end, or None for a Unix domain socket.
    """

    __slots__ = ("body", "client", "headers", "method", "path", "query_string")

    def __init__(
        self,
        method: str,
        path: str,
        query_string: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
        client: Optional[str] = None,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.client = client

    def header(self, name: bytes) -> str:
        """The header's value, or "". Several values are joined into one list (RFC 9110, 5.3)."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else ""


class Response:
    """A complete answer. An empty `content_type` means no body."""

    __slots__ = ("body", "headers", "security", "status")

    def __init__(
        self,
        body: bytes = b"",
        content_type: bytes = JSON,
        status: int = 200,
        headers: Iterable[tuple[bytes, bytes]] = (),
        security: Sequence[tuple[bytes, bytes]] = API_SECURITY,
    ) -> None:
        self.body = body
        self.status = status
        self.security = security
        self.headers: list[tuple[bytes, bytes]] = [*headers]
        if content_type:
            self.headers.append((b"content-type", content_type))
        if status not in _NO_BODY:
            self.headers.append((b"content-length", b"%d" % len(body)))


class StreamResponse:
    """An answer without a known length: its first chunk, and a generator of the following ones."""

    __slots__ = ("chunks", "first", "headers")

    def __init__(self, first: bytes, chunks: AsyncGenerator[bytes, None], headers: list[tuple[bytes, bytes]]) -> None:
        self.first = first
        self.chunks = chunks
        self.headers = headers


Answer = Union[Response, StreamResponse]


def json_response(content: object) -> Response:
    """A successful JSON answer."""
    return Response(msgspec.json.encode(content))


def conditional_json(
    content: object,
    request: Request,
    headers: Iterable[tuple[bytes, bytes]] = (),
    summary: Optional[bytes] = None,
) -> Response:
    """A JSON answer with an ETag, or 304 if the caller has it already.

    The tag is a hash of `summary`, which must change whenever the content does, or of the whole body without one.
    """
    body = msgspec.json.encode(content)
    tag = b'"%b"' % hashlib.sha256(body if summary is None else summary).hexdigest()[:24].encode()
    sent = [(b"etag", tag), (b"cache-control", b"no-cache"), *headers]
    known = request.header(b"if-none-match")
    if known and _names(known, tag.decode()):
        return Response(b"", b"", 304, sent)
    return Response(body, JSON, 200, sent)


def _names(known: str, tag: str) -> bool:
    """Is the tag in If-None-Match? A proxy that compresses an answer makes its tag weak."""
    return any(item.strip() in (tag, f"W/{tag}", "*") for item in known.split(","))


def problem_response(problem: ProblemAnswer) -> Response:
    """An error answer. The content type is among its headers."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in problem.headers.items()]
    return Response(problem.body, b"", problem.status, headers)


async def body_of(receive: Receive, most_bytes: int) -> Optional[bytes]:
    """Returns the body, read until it exceeds `most_bytes`, or None if the client has disconnected."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body") and len(body) <= most_bytes:
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


async def send_json(send: Send, body: bytes, headers: Optional[Mapping[str, str]] = None) -> None:
    """Send a successful JSON answer."""
    more = [(name.encode("ascii"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await _send_whole(send, Response(body, JSON, 200, more))


async def send_problem(send: Send, problem: ProblemAnswer) -> None:
    """Send an error answer."""
    await _send_whole(send, problem_response(problem))


async def send_response(answer: Answer, receive: Receive, send: Send, *, with_body: bool = True) -> None:
    """Send an answer, to a HEAD request without its body. A stream ends when the client disconnects."""
    if isinstance(answer, Response):
        await _send_whole(send, answer, with_body=with_body)
        return
    try:
        await while_there(_send_stream(answer, send), receive)
    finally:
        await answer.chunks.aclose()


async def while_there(work: Awaitable[T], receive: Receive) -> Optional[T]:
    """Returns or raises what `work` does. If the client disconnects first, cancels `work` and returns None."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)  # a failure was raised above


async def _send_whole(send: Send, answer: Response, *, with_body: bool = True) -> None:
    headers = [*answer.headers, *answer.security]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


async def _send_stream(answer: StreamResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [*answer.headers, *API_SECURITY]})
    await send({"type": "http.response.body", "body": answer.first, "more_body": True})
    async for chunk in answer.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def body_as(body: bytes, kind: type[T]) -> T:
    """Decodes a JSON body as `kind`. Raises Refused."""
    return decoded(body, lambda given: msgspec.json.decode(given, type=kind))


def decoded(body: bytes, decode: Callable[[bytes], T]) -> T:
    """Decodes a body with msgspec. Raises Refused."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Refused("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


def refuse_content_type(content_type: bytes) -> None:
    """Raise Refused unless the content type is JSON in UTF-8."""
    if content_type == JSON:  # the usual form
        return
    media_type, _, parameters = content_type.decode("latin-1").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused("wrong-content-type", "send Content-Type: application/json")
