"""TLS handshakes that never end, against a real coordinator: they hold nothing for long and shut nobody out."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.coordinators import Running
from tests.support.processes import duxnet, until
from tests.support.requirements import need_program
from tests.system.coordinator.test_admission import REQUEST
from tests.system.coordinator.test_hostile import SHORT, sockets_of

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


BLIND = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BLIND.check_hostname, BLIND.verify_mode = False, ssl.CERT_NONE


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate that is its own, as settings."""
    folder = tmp_path_factory.mktemp("certified")
    key, certificate = str(folder / "tls.key"), str(folder / "tls.crt")
    made = [need_program("openssl", "openssl"), *REQUEST.split(), "-keyout", key, "-out", certificate]
    subprocess.run(made, capture_output=True, check=True)
    return {"tls_certificate": certificate, "tls_key": key}


@pytest.fixture
def limited(tmp_path: Path, certified: dict[str, str]) -> Iterator[Running]:
    """A coordinator that takes 44 connections."""
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=300, **certified) as running:  # type: ignore[arg-type]  # by name
        yield running
        assert "Traceback" not in running.output()


def silent(running: Running) -> socket.socket:
    """A connection that begins no handshake."""
    return socket.create_connection(("127.0.0.1", running.port), timeout=20)


def spoken(running: Running, request: bytes = SHORT) -> ssl.SSLSocket:
    """A connection on which a request was sent in the same flight as the end of the handshake."""
    connection = BLIND.wrap_socket(silent(running))
    connection.sendall(request)
    return connection


def test_connections_that_begin_no_handshake_shut_nobody_out(limited: Running, certified: dict[str, str]) -> None:
    idle, log = sockets_of(limited), limited.output()
    with ExitStack() as held:
        for _ in range(400):
            held.enter_context(silent(limited))
        until(lambda: sockets_of(limited) <= idle + 64, "those that waited longest are gone")
        ca_file = certified["tls_certificate"]
        for _ in range(3):
            listed = duxnet("nodes", "list", "--registry", limited.address, DUXNET_REGISTRY__CA_FILE=ca_file)
            assert listed.returncode == 0, listed.stderr
        for _ in range(20):
            with spoken(limited) as connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
    until(lambda: sockets_of(limited) == idle, "they are gone")
    assert limited.output() == log


def test_beyond_the_limit_who_shakes_hands_is_told_to_come_again(limited: Running) -> None:
    idle = sockets_of(limited)
    with ExitStack() as held:
        for _ in range(44):
            assert held.enter_context(spoken(limited)).recv(12) == b"HTTP/1.1 200"
        for _ in range(200):
            held.enter_context(silent(limited))
        until(lambda: sockets_of(limited) <= idle + 44 + 64, "those that waited longest are gone")
        refused = [held.enter_context(spoken(limited)) for _ in range(30)]  # none of which says goodbye
        assert {connection.recv(12) for connection in refused} == {b"HTTP/1.1 503"}
    until(lambda: sockets_of(limited) == idle, "room again")
    with spoken(limited) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_who_is_turned_away_and_does_not_go_is_bounded_too(limited: Running) -> None:
    idle = sockets_of(limited)
    with ExitStack() as held:
        for _ in range(44):
            assert held.enter_context(spoken(limited)).recv(12) == b"HTTP/1.1 200"
        told = 0
        for _ in range(300):
            connection = held.enter_context(silent(limited))
            try:
                connection = held.enter_context(BLIND.wrap_socket(connection))
                connection.sendall(SHORT)
                told += connection.recv(12) == b"HTTP/1.1 503"
            except OSError:  # closed without a word
                pass
            assert sockets_of(limited) <= idle + 44 + 130
        assert told >= 60
    until(lambda: sockets_of(limited) == idle, "room again")


def test_where_files_run_out_they_make_room_too(tmp_path: Path, certified: dict[str, str]) -> None:
    need_program("prlimit", "util-linux")
    with Running(tmp_path / "state", open_files=72, **certified) as poor, ExitStack() as held:  # type: ignore[arg-type]  # by name
        log = poor.output()
        for _ in range(200):
            held.enter_context(silent(poor))
        for _ in range(5):
            with spoken(poor) as connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
        assert poor.output() == log


def test_broken_handshakes_leave_nothing_and_fill_no_log(limited: Running) -> None:
    idle, log = sockets_of(limited), limited.output()
    for nonsense in (b"", SHORT, b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, b"\x00" * 500):
        for _ in range(5):
            with silent(limited) as connection:
                connection.sendall(nonsense)
            with silent(limited) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                connection.sendall(nonsense)  # and then reset
    with silent(limited) as connection:
        picky = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which does not trust
        with pytest.raises(ssl.SSLError):
            picky.wrap_socket(connection, server_hostname="localhost")
    until(lambda: sockets_of(limited) == idle, "they are gone")
    assert limited.output() == log


def test_a_stop_waits_for_no_handshake(limited: Running) -> None:
    with ExitStack() as held:
        for _ in range(10):
            held.enter_context(silent(limited))
        with spoken(limited) as last:
            assert last.recv(1)  # all before it are known
        begun = time.monotonic()
        assert limited.stop() == 0
        assert time.monotonic() - begun < 5
    assert "destroyed" not in limited.output()


@pytest.mark.slow
def test_a_handshake_has_ten_seconds(limited: Running) -> None:
    with silent(limited) as nothing, silent(limited) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        begun = time.monotonic()
        for connection in (nothing, half):
            while connection.recv(4096):
                pass
        assert 8 < time.monotonic() - begun < 15
