"""An answer's head goes out with its body, and waits for nothing longer than one turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Optional

import pytest

from duxnet.coordinator.server.connection import _JoinedWrites
from tests.support.coordinators import Running


class Written(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        assert not self.closed
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", b"body", b"more", b"rest"], [b"headbody", b"more", b"rest"]),
        ([b"head", None, b"body"], [b"head", b"body"]),
        ([b"head", None, None], [b"head"]),
        ([b"head", b""], [b"head"]),
    ],
)
def test_the_head_is_written_with_the_first_part_or_in_the_next_turn(
    said: list[Optional[bytes]], expected: list[bytes]
) -> None:
    transport = Written()

    async def write() -> None:
        joined = _JoinedWrites(transport, asyncio.get_running_loop())
        for part in said:
            if part is None:
                await asyncio.sleep(0)
            else:
                joined.write(part)
        await asyncio.sleep(0)
        assert transport.pieces == expected
        joined.close()
        await asyncio.sleep(0)

    asyncio.run(write())
    assert transport.pieces == expected
    assert transport.closed


def test_a_head_alone_is_written_before_the_connection_closes() -> None:
    transport = Written()

    async def write() -> None:
        joined = _JoinedWrites(transport, asyncio.get_running_loop())
        joined.write(b"head")
        joined.close()
        assert joined.is_closing()
        await asyncio.sleep(0)

    asyncio.run(write())
    assert transport.pieces == [b"head"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("joined") / "state") as coordinator:
        yield coordinator


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_short_answer_arrives_in_one_piece(running: Running, method: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(method + b" /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == (b'{"count":0}' if method == b"GET" else b"")


def test_a_stream_s_head_does_not_wait_for_its_first_event(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")
