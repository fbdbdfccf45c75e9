"""Servers that answer as no coordinator does, on real sockets: a byte at a time, without end, or never."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Callable, Optional

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

Answering = Callable[[socket.socket, bytes], None]


def drip_head(connection: socket.socket, _request: bytes) -> None:
    """A header line each 50 ms, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: y\r\n")
        time.sleep(0.05)


def drip_status(connection: socket.socket, _request: bytes) -> None:
    """A byte of the status line each 50 ms."""
    while True:
        for place in range(len(HEAD)):
            connection.sendall(HEAD[place : place + 1])
            time.sleep(0.05)


def drip_body(connection: socket.socket, _request: bytes) -> None:
    """A byte of the body each 50 ms."""
    connection.sendall(HEAD + b"content-length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_informational(connection: socket.socket, _request: bytes) -> None:
    """An interim answer each 50 ms and never the real one."""
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.05)


def endless_body(connection: socket.socket, _request: bytes) -> None:
    """As much as the peer takes."""
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def whole(body: bytes, status: str = "200 OK", *headers: str) -> Answering:
    """One answer as it should be, again and again."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]
    return lambda connection, _request: connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


@contextlib.contextmanager
def served(answering: Answering, context: Optional[ssl.SSLContext] = None) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server, and the heads of the requests that came. `answering` is called for each request."""
    heads: list[bytes] = []
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                stream = context.wrap_socket(connection, server_side=True) if context is not None else connection
                held.append(stream)
                received = b""
                while True:
                    while b"\r\n\r\n" not in received:
                        piece = stream.recv(65536)
                        if not piece:
                            return
                        received += piece
                    head, _, received = received.partition(b"\r\n\r\n")
                    heads.append(head)
                    length = next(
                        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
                        0,
                    )
                    while len(received) < length:
                        received += stream.recv(65536)
                    received = received[length:]
                    answering(stream, head)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}", heads
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()
            accepting.join(5)
