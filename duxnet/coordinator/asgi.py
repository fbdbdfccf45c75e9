"""What the routes without a framework say in ASGI: reading a body within a bound, sending an answer or a problem."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Callable, Optional

from duxnet.coordinator.problems import ProblemAnswer

__all__ = ["Receive", "Scope", "Send", "body_of", "send_json", "send_problem"]

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
