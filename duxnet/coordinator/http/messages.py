"""What the routes without a framework say in ASGI: reading a body within a bound, sending an answer or a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Callable, Optional, TypeVar

import msgspec

from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.problem_answers import ProblemAnswer

__all__ = [
    "Receive",
    "Scope",
    "Send",
    "body_of",
    "send_json",
    "send_problem",
    "body_as",
    "decoded",
    "refuse_content_type",
]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def body_of(receive: Receive, most_bytes: int) -> Optional[bytes]:
    """The body, or as much of it as shows that it has more than `most_bytes`; None: the client has gone."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body") and len(body) <= most_bytes:
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


async def send_json(send: Send, body: bytes, headers: Optional[Mapping[str, str]] = None) -> None:
    """Send a success."""
    await _send(send, 200, {"content-type": "application/json", **(headers or {})}, body)


async def send_problem(send: Send, problem: ProblemAnswer) -> None:
    """Send an error answer."""
    await _send(send, problem.status, problem.headers, problem.body)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    sent = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


T = TypeVar("T")


def body_as(body: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises Refused."""
    return decoded(body, lambda given: msgspec.json.decode(given, type=kind))


def decoded(body: bytes, decode: Callable[[bytes], T]) -> T:
    """What a decoder of msgspec makes of the body. Raises Refused."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Refused("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


def refuse_content_type(content_type: bytes) -> None:
    """Raise Refused unless it is JSON in UTF-8."""
    if content_type == b"application/json":  # as nearly all write it
        return
    media_type, _, parameters = content_type.decode("latin-1").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refused("wrong-content-type", "send Content-Type: application/json")
