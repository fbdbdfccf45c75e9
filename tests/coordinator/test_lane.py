"""The lane of heartbeats answers exactly what the long way answers, whatever way the bytes come.

The long way is taken by a path with an escaped letter: the same route, carried by ASGI.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Optional

import pytest

from tests.coordinator.running import Running
from tests.coordinator.test_identity import Signer

LANE, LONG = "/heartbeat", "/%68eartbeat"
JSON = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("lane") / "state") as coordinator:
        yield coordinator


class Node:
    """A registered node that speaks in raw bytes."""

    def __init__(self, running: Running) -> None:
        self.running = running
        signer = Signer(running)
        self.id = signer.node_id
        self.session = signer.register()[2]["session"]

    def beat(self, body: bytes, tail: str = LANE, head: str = JSON, token: Optional[str] = None) -> bytes:
        bearer = f"Authorization: Bearer {self.session if token is None else token}\r\n"
        lines = f"PUT /v1/nodes/{self.id}{tail} HTTP/1.1\r\nHost: x\r\n{bearer}{head}"
        return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def speak(self, *parts: bytes, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
        with socket.create_connection(("127.0.0.1", self.running.port), timeout=10) as connection:
            for part in parts:
                connection.sendall(part)
            stream = connection.makefile("rb")
            return [_answer(stream) for _ in range(answers)]


def _answer(stream) -> tuple[int, dict[str, str], bytes]:  # type: ignore[no-untyped-def]  # a buffered socket
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return status, headers, stream.read(int(headers.get("content-length", 0)))


def sample(sequence: int, **more: object) -> bytes:
    return json.dumps({"sequence": sequence, "load_average": 1.5, "memory_usage": 50.0, **more}).encode()


@pytest.mark.parametrize(
    ("body", "head", "token", "status"),
    [
        (sample(1), JSON, None, 200),
        (sample(1), 'Content-Type: application/json; charset="UTF-8"\r\n', None, 200),
        (sample(1), "Content-Type: text/plain\r\n", None, 415),
        (sample(1), "", None, 415),
        (b"{", JSON, None, 400),
        (b"", JSON, None, 400),
        (b"\xff\xfe", JSON, None, 400),
        pytest.param(b'{"x":' + b"[" * 2000, JSON, None, 400, id="deep"),
        (sample(1, load_average=-1), JSON, None, 422),
        (sample(1, disk_usage=101), JSON, None, 422),
        (sample(-1), JSON, None, 422),
        (sample(1), JSON, "", 401),
        (sample(1), JSON, "dux_operator_no", 401),
        (sample(1), JSON, "x.y.z", 401),
    ],
)
def test_both_ways_answer_alike(running: Running, body: bytes, head: str, token: Optional[str], status: int) -> None:
    found = []
    for tail in (LANE, LONG):
        node = Node(running)
        ((told, headers, answer),) = node.speak(node.beat(body, tail, head, token))
        plain = json.loads(answer)
        plain.get("health", {}).pop("last_heartbeat", None)  # when it came
        plain.pop("instance", None)  # whose it was
        assert node.id not in json.dumps(plain)
        found.append((told, headers["content-type"], headers.get("www-authenticate"), plain))
    assert found[0] == found[1]
    assert found[0][0] == status


def test_bytes_may_come_one_by_one_together_or_in_chunks(running: Running) -> None:
    node = Node(running)
    request = node.beat(sample(1))
    ((status, _, first),) = node.speak(*(request[at : at + 1] for at in range(len(request))))
    assert status == 200
    answers = node.speak(node.beat(sample(2)) + node.beat(sample(3), LONG) + node.beat(sample(4)), answers=3)
    assert [answer[0] for answer in answers] == [200, 200, 200]
    body, node = sample(1), Node(running)  # another: four at once are all that one may send
    chunked = node.beat(b"", head=JSON + "Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
    pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:7], body[7:])]
    ((status, _, last),) = node.speak(chunked, *pieces, b"0\r\n\r\n")
    assert status == 200
    assert json.loads(first)["health"]["load_average"] == json.loads(last)["health"]["load_average"] == 1.5


def test_a_connection_ends_when_the_node_says_so(running: Running) -> None:
    node = Node(running)
    old = node.beat(sample(1)).replace(b"HTTP/1.1", b"HTTP/1.0")
    last = node.beat(sample(2), head=JSON + "Connection: close\r\n")
    for request in (old, last):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(request)
            said = b""
            while chunk := connection.recv(4096):
                said += chunk
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert b" 200 ok" in head
        assert b"connection: close" in head


@pytest.mark.parametrize("length_told", [True, False])
def test_a_body_that_is_too_large_ends_the_connection(running: Running, length_told: bool) -> None:
    node = Node(running)
    body = b'{"sequence": 1, "x": "' + b"x" * 8192 + b'"}'
    request = node.beat(body)
    if not length_told:
        request = node.beat(b"", head=JSON + "Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
        request += b"%x\r\n%b\r\n" % (len(body), body)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(request)
        status, headers, answer = _answer(connection.makefile("rb"))
    assert (status, headers["connection"], json.loads(answer)["type"]) == (413, "close", "urn:duxnet:problem:too-large")
    assert node.speak(node.beat(sample(1)))[0][0] == 200  # nothing of it counted


@pytest.mark.parametrize("tail", [LANE, LONG])
def test_the_body_of_an_upgrade_is_never_taken_for_a_request(running: Running, tail: str) -> None:
    node = Node(running)
    hidden = b"GET /v1/count HTTP/1.1\r\nHost: x\r\n\r\n"
    request = node.beat(hidden, tail, JSON + "Connection: Upgrade\r\nUpgrade: h2c\r\n")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        stream = connection.makefile("rb")
        connection.sendall(request[: -len(hidden)])
        status, headers, answer = _answer(stream)
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(answer)["detail"].startswith("Upgrade: ")
        with suppress(ConnectionError):
            connection.sendall(hidden)
            assert stream.read() == b""


def test_a_heartbeat_waits_for_the_answer_before_it(running: Running) -> None:
    node = Node(running)
    reading = b"GET /v1/count HTTP/1.1\r\nHost: x\r\n\r\n"
    first, second, third = node.speak(reading + node.beat(sample(1)) + reading, answers=3)
    assert "count" in json.loads(first[2])
    assert "health" in json.loads(second[2])
    assert "count" in json.loads(third[2])
