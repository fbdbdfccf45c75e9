"""The lane of heartbeats answers exactly what the long way answers, whatever way the bytes come; so do registrations.

The long way is taken by a path with an escaped letter: the same route, carried by ASGI.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Optional

import pytest

from tests.support.coordinators import Running
from tests.system.coordinator.test_identity import Signer

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
        self.signer = Signer(running)
        self.id = self.signer.node_id
        self.session = self.signer.register()[2]["session"]

    def beat(self, body: bytes, tail: str = LANE, head: str = JSON, token: Optional[str] = None) -> bytes:
        bearer = f"Authorization: Bearer {self.session if token is None else token}\r\n"
        lines = f"PUT /v1/nodes/{self.id}{tail} HTTP/1.1\r\nHost: localhost\r\n{bearer}{head}"
        return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def registration(
        self, generation: int, long: bool = False, body: Optional[bytes] = None, **headers: Optional[str]
    ) -> bytes:
        """Signed for the path that it takes. A header given is put in place of ours, None leaves it out."""
        path = f"/v1/nodes/{f'%{ord(self.id[0]):x}{self.id[1:]}' if long else self.id}"
        said = self.signer.body(generation) if body is None else body
        own: dict[str, Optional[str]] = {
            "host": "x",
            "content-type": "application/json",
            "content-length": str(len(said)),
            **self.signer.headers(said, path=path),
        }
        own.update((name.replace("_", "-"), value) for name, value in headers.items())
        lines = [f"{name}: {value}" for name, value in own.items() if value is not None]
        return "\r\n".join([f"PUT {path} HTTP/1.1", *lines, "", ""]).encode() + said

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
    hidden = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = node.beat(hidden, tail, JSON + "Connection: Upgrade\r\nUpgrade: h2c\r\n")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        stream = connection.makefile("rb")
        connection.sendall(request[: -len(hidden)])
        status, headers, answer = _answer(stream)
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(answer)["detail"].startswith("header upgrade: ")
        with suppress(ConnectionError):
            connection.sendall(hidden)
            assert stream.read() == b""


def test_a_heartbeat_waits_for_the_answer_before_it(running: Running) -> None:
    node = Node(running)
    reading = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"
    first, second, third = node.speak(reading + node.beat(sample(1)) + reading, answers=3)
    assert "count" in json.loads(first[2])
    assert "health" in json.loads(second[2])
    assert "count" in json.loads(third[2])


@pytest.mark.parametrize(
    ("body", "headers", "status", "is_signed"),
    [
        (None, {}, 200, True),
        (None, {"content_type": 'application/json; charset="UTF-8"'}, 401, True),  # another one than was signed
        (None, {"content_type": "text/plain"}, 415, False),
        (None, {"content_type": None}, 415, False),
        (None, {"signature": None}, 401, False),
        (None, {"signature_input": None}, 401, False),
        (None, {"duxnet_audience": "c1other"}, 401, False),
        (None, {"content_digest": "sha-256=:AAAA:"}, 401, False),
        (None, {"authorization": "Bearer dux_operator_no", "signature_input": None}, 401, False),
        (b"{", {}, 400, True),
        (b"\xff\xfe", {}, 400, True),
        pytest.param(b'{"x":' + b"[" * 2000, {}, 400, True, id="deep"),
        (b'{"node": {}}', {}, 422, True),
        (b'{"node": {"ip_address": "192.0.2.1"}, "generation": -1}', {}, 422, True),
    ],
)
def test_registrations_are_answered_alike_however_the_path_is_written(
    running: Running, body: Optional[bytes], headers: dict[str, Optional[str]], status: int, is_signed: bool
) -> None:
    found = []
    for long in (False, True):
        node = Node(running)
        ((told, said, answer),) = node.speak(node.registration(2, long, body, **headers))
        plain = json.loads(answer)
        for name in ("node_id", "session", "instance"):
            plain.pop(name, None)
        assert ("signature" in said, "signature-input" in said) == (is_signed, is_signed)
        found.append((told, said["content-type"], said.get("www-authenticate"), plain))
    assert found[0] == found[1]
    assert found[0][0] == status


def test_an_operator_registers_by_both_ways(running: Running) -> None:
    token = f"Bearer {running.operator_token()}"
    for long in (False, True):
        node = Node(running)
        ((status, headers, answer),) = node.speak(node.registration(2, long, signature_input=None, authorization=token))
        assert (status, json.loads(answer)["node_id"]) == (200, node.id)
        assert "signature" not in headers


def test_a_registration_may_come_in_pieces_and_what_follows_waits_for_its_answer(running: Running) -> None:
    node = Node(running)
    request = node.registration(2)
    ((status, _, _),) = node.speak(*(request[at : at + 1] for at in range(len(request))))
    assert status == 200
    reading = b"GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = node.speak(
        node.registration(3) + reading + node.registration(4) + node.registration(5, long=True), answers=4
    )
    assert [status for status, _, _ in answers] == [200] * 4
    assert [json.loads(answer).get("generation") for _, _, answer in answers] == [3, None, 4, 5]
    session = json.loads(answers[-1][2])["session"]
    beats = node.speak(node.registration(6) + node.beat(sample(1), token=session), answers=2)
    assert [status for status, _, _ in beats] == [200, 401]  # that session ended with the registration before it


def test_a_connection_ends_behind_the_registration_that_says_so(running: Running) -> None:
    node = Node(running)
    for generation, last in ((2, node.registration(2, connection="close")), (3, node.registration(3))):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(last if generation == 2 else last.replace(b"HTTP/1.1", b"HTTP/1.0"))
            said = b""
            while chunk := connection.recv(4096):
                said += chunk
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert b" 200 ok" in head
        assert generation == 3 or b"connection: close" in head  # HTTP/1.0 closes without saying so


def test_who_hangs_up_before_the_answer_harms_nobody(running: Running) -> None:
    node = Node(running)
    for generation in range(2, 20):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(node.registration(generation) + node.beat(sample(1)))
    status, _, answer = node.speak(node.registration(30))[0]
    assert (status, json.loads(answer)["generation"]) == (200, 30)
    assert "Traceback" not in running.output()


@pytest.mark.parametrize("length_told", [True, False])
def test_a_registration_that_is_too_large_is_refused(running: Running, length_told: bool) -> None:
    node = Node(running)
    body = b'{"node": {}, "x": "' + b"x" * 70_000 + b'"}'
    request = node.registration(2, body=body)
    if not length_told:
        request = node.registration(2, body=b"", content_length=None, transfer_encoding="chunked")
        request += b"%x\r\n%b\r\n" % (len(body), body)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(request)
        status, _, answer = _answer(connection.makefile("rb"))
    assert (status, json.loads(answer)["type"]) == (413, "urn:duxnet:problem:too-large")
