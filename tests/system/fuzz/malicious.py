"""A coordinator that means harm: it has a key, signs what it says, and says what a seed draws.

Here: answers. Not here: sockets (`tests.support.servers`), who is to survive them (`test_malicious_coordinator`).
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import time
from typing import Any, Callable, Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.identity.answer_signature import SignedAnswer, sign_answer
from registry_core.identity.coordinator_id import coordinator_id_of_key
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.signatures import SignedRequest
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, problem_type
from registry_core.wire.shapes import PROTOCOL
from tests.support.servers import (
    HEAD,
    Answering,
    drip_body,
    drip_head,
    drip_informational,
    drip_status,
    endless_body,
    whole,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
ID = coordinator_id_of_key(raw_public_key(KEY.public_key()))
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;cm0gLXJm\x07\u202e\u200b\r\nFAKE LOG LINE\x9b31m"
ODD: list[Any] = [
    *(0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**400, 1e-300, 1e300, -1e300, True, None, "", "x" * 100_000, ESCAPES),
    *([], {}, [[]], {"a": {"a": {}}}, [None] * 2000, {ESCAPES: ESCAPES}, "NaN", "9999-12-31T23:59:59Z", "-1"),
]
HEALTH = {"load_average": 1.0, "memory_usage": 1.0, "disk_usage": 1.0, "last_heartbeat": "2026-01-01T00:00:00.000Z"}


def info() -> dict[str, Any]:
    return {
        "id": ID,
        "public_key": public_key_text(KEY.public_key()),
        "version": "1",
        "join": "open",
        "public_network": False,
        "interval_seconds": 5.0,
        "retention_seconds": 1e5,
        "degraded": False,
        "protocol": PROTOCOL,
    }


def a_node(node_id: str) -> dict[str, Any]:
    return {
        "id": node_id,
        "ip_address": "192.0.2.1",
        "hostname": "host",
        "wallet_address": "w",
        "admission": "approved",
        "admission_reason": "well behaved",
        "tags": {"rack": "a"},
        "capabilities": {"cpu_cores": 8, "memory_gb": 16.0, "storage_gb": 100.0, "gpus": []},
        "health": {**HEALTH, "conditions": {}},
        "extra": {"colour": "red"},
    }


def plain_answer(method: str, path: str, body: bytes) -> dict[str, Any]:
    """What an honest one would say."""
    route, _, _ = path.partition("?")
    node_id = ([*route.split("/"), "", "", "", ""])[3]
    if route == "/v1/coordinator":
        return info()
    if route == "/v1/nodes":
        return {"schema": "duxnet.nodes/1.1", "nodes": [a_node("n1a")], "next": None, "degraded": False, "damaged": 0}
    if route == "/v1/count":
        return {"count": 1}
    if route.endswith("/heartbeat"):
        return {
            "interval_seconds": 0.2,
            "health": {**HEALTH, "conditions": {}},
            "degraded": False,
            "withheld": [{"condition": "c", "found": "f", "remedy": "r"}],
        }
    if method == "PUT" and route == f"/v1/nodes/{node_id}":
        return {
            "node_id": node_id,
            "generation": json.loads(body)["generation"],
            "session": "s~1~2~3",
            "session_seconds": 86400.0,
            "interval_seconds": 0.2,
            "admission": "approved",
            "admission_reason": "",
            "coordinator": ID,
            "degraded": False,
        }
    if route.endswith(("/reputation", "/outcomes")):
        return {"node_id": node_id, "score": 2.5, "standing": "approved", "reasons": ["r"]}
    return a_node(node_id)


def spoiled(plain: Any, draw: random.Random) -> Any:
    """The same with one value in it, or one name, replaced by something odd."""
    places: list[Callable[[Any], None]] = []

    def visit(at: Any) -> None:
        for key in list(at) if isinstance(at, dict) else range(len(at)):
            places.append(lambda odd, at=at, key=key: at.__setitem__(key, odd))  # type: ignore[misc]
            if isinstance(at[key], (dict, list)):
                visit(at[key])

    copy = json.loads(json.dumps(plain))
    visit(copy)
    draw.choice(places)(draw.choice(ODD))
    return copy


def problem(draw: random.Random) -> tuple[int, dict[str, Any]]:
    kind = draw.choice(sorted(KINDS.values(), key=lambda each: each.name))
    texts = ("title", "detail", "remedy", "field", "value", "rule", "instance")
    plain = {"type": problem_type(kind.name), "status": kind.status, **dict.fromkeys(texts, ESCAPES + "x" * 5000)}
    return kind.status, {**plain, "current_generation": draw.choice(ODD), "retry_after_seconds": draw.choice(ODD)}


def request_of(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    return method, path, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def answer(connection: socket.socket, head: bytes, status: int, plain: Any, body: bytes, *more: str) -> None:
    """Send it; signed where a registration is answered whose body is known."""
    method, path, headers = request_of(head)
    content = json.dumps(plain).encode("utf-8", "surrogatepass")
    media_type = PROBLEM_MEDIA_TYPE if status >= 400 else "application/json"
    lines = [*more]
    if body and "signature-input" in headers:
        asked = SignedRequest(method, path, "", headers["content-type"], headers["duxnet-audience"], body)
        said = SignedAnswer(status, media_type, content)
        proof = sign_answer(said, asked, headers, KEY, ID, int(time.time()))
        lines += [f"{name}: {value}" for name, value in proof.items()]
    start = [f"HTTP/1.1 {status} Odd", f"content-length: {len(content)}", f"content-type: {media_type}", *lines]
    connection.sendall("\r\n".join([*start, "", ""]).encode("latin-1") + content)


def redirect(connection: socket.socket, head: bytes) -> None:
    targets = "file:///etc/passwd", "http://169.254.169.254/", "//[", "\x7f", "http://127.0.0.1:1/" + "a" * 5000
    answer(connection, head, 307, {}, b"", f"location: {random.Random(head).choice(targets)}")


def bomb(connection: socket.socket, _head: bytes) -> None:
    content = gzip.compress(b" " * (64 << 20), 1)
    connection.sendall(HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(content) + content)


def same_cursor(connection: socket.socket, head: bytes) -> None:
    page = {"nodes": [a_node("n1a")], "next": "~1~1", "degraded": False, "damaged": 0}
    answer(connection, head, 200, info() if b"/v1/coordinator" in head else page, b"")


def fresh_cursors(connection: socket.socket, head: bytes) -> None:
    page = {"nodes": [a_node("n1a")], "next": f"~1~{time.monotonic_ns()}", "degraded": False, "damaged": 0}
    answer(connection, head, 200, info() if b"/v1/coordinator" in head else page, b"")


def wait_for_ever(connection: socket.socket, head: bytes) -> None:
    answer(connection, head, 503, {}, b"", "retry-after: " + "9" * 300)


QUICK: dict[str, Answering] = {
    "redirect": redirect,
    "gzip bomb": bomb,
    "same cursor": same_cursor,
    "fresh cursors": fresh_cursors,
    "retry-after": wait_for_ever,
    "deep": whole(b"[" * 2_000_000),
    "no JSON": whole(b"\xff\xfe<html>\x1b[2J"),
    "a field that is no UTF-8": whole(b'{"count": 1, "\xe4": 1, "nodes": [{"\xe4": 1}]}'),
    "no HTTP": lambda connection, _head: connection.sendall(b"\x16\x03\x01\x1b[2J\r\n\r\n"),
    "length that lies": lambda connection, _head: connection.sendall(HEAD + b"content-length: -7\r\n\r\n{}"),
    "switching": lambda connection, _head: connection.sendall(b"HTTP/1.1 101 Go\r\nupgrade: x\r\n\r\n"),
}
SLOW: dict[str, Answering] = {
    each.__name__: each for each in (drip_head, drip_status, drip_body, drip_informational, endless_body)
}


class Spoiling:
    """Says what an honest one would with one thing spoiled, or a problem; honest where `is_honest`.

    `only`: whether the request with this method and path is to be spoiled.
    """

    def __init__(self, seed: int, only: Optional[Callable[[str, str], bool]] = None) -> None:
        self._draw = random.Random(seed)
        self._only = only
        self.is_honest = False
        self.spoiled = 0

    def __call__(self, connection: socket.socket, head: bytes, body: bytes) -> None:
        method, path, _ = request_of(head)
        plain, status = plain_answer(method, path, body), 200
        if not self.is_honest and (self._only is None or self._only(method, path)):
            self.spoiled += 1
            if self._draw.random() < 0.25:
                status, plain = problem(self._draw)
            else:
                plain = spoiled(plain, self._draw)
        answer(connection, head, status, plain, body)
