"""A real agent before a front that answers badly: it stays small, says what is wrong, and is well again by itself."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, duxnet, until
from tests.support.servers import Answering, drip_body, drip_head, endless_body, served, whole

MOST_RESIDENT_KIB = 90 * 1024


class Front:
    """Between agent and coordinator: passes all on, or answers by itself what `answering` says."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.answering: Optional[Answering] = None
        self.heads: list[bytes] = []


@contextlib.contextmanager
def a_front(upstream_port: int) -> Iterator[tuple[str, Front]]:
    """Its address. Each connection is closed after one answer, so that the next request meets what is set then."""
    front = Front(upstream_port)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(30)
                request = connection.recv(65536)
                front.heads.append(request)
                if front.answering is not None:
                    front.answering(connection, request)
                    return
                with socket.create_connection(("127.0.0.1", front.upstream_port), timeout=30) as upstream:
                    upstream.sendall(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
                    threading.Thread(target=pass_on, args=(connection, upstream), daemon=True).start()
                    while piece := upstream.recv(65536):
                        connection.sendall(piece)

        def pass_on(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while piece := source.recv(65536):
                    sink.sendall(piece)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", front
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answering", [drip_head, drip_body, endless_body], ids=lambda each: each.__name__)
def test_it_goes_on_and_is_well_again_by_itself(answering: Answering, tmp_path: Path) -> None:
    with (
        Running(tmp_path / "coordinator", shortest_interval_seconds=0.2) as running,
        a_front(running.port) as (address, front),
        RunningAgent(tmp_path / "state", "--registry", address, interval=0.2) as agent,
    ):
        agent.wait_for_reports(2)
        front.answering = answering
        agent.wait_for_log("cannot report")
        failed = int(agent.status()["reports_failed"])
        until(lambda: int(agent.status()["reports_failed"]) > failed, "another report that fails")
        assert agent.log.count("cannot report") == 1
        assert "sample is still running" not in agent.log
        assert peak_kib(agent) < MOST_RESIDENT_KIB
        front.answering = None
        agent.wait_for_reports(2)
        assert "reporting again" in agent.log
        assert "Traceback" not in agent.log


def peak_kib(agent: RunningAgent) -> int:
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    (peak,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak


def test_a_maintenance_page_silences_it_until_a_reload_at_most(tmp_path: Path) -> None:
    with (
        Running(tmp_path / "coordinator", shortest_interval_seconds=0.2) as running,
        a_front(running.port) as (address, front),
        RunningAgent(tmp_path / "state", "--registry", address, interval=0.2) as agent,
    ):
        agent.wait_for_reports(2)
        front.answering = whole(b"down", "503 Service Unavailable", "retry-after: 86400")
        agent.wait_for_log("answered with status 503")
        front.answering = None
        failed = int(agent.status()["reports_failed"])
        until(lambda: int(agent.status()["reports_failed"]) > failed + 2, "some reports that are kept back")
        assert agent.log.count("cannot report") == 1
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_reports(1)


def test_on_leaving_it_says_that_the_network_did_not_answer(tmp_path: Path) -> None:
    with (
        Running(tmp_path / "coordinator", shortest_interval_seconds=0.2) as running,
        a_front(running.port) as (address, front),
        RunningAgent(tmp_path / "state", "--registry", address, interval=0.2) as agent,
    ):
        agent.wait_for_reports(2)
        front.answering = drip_head
        code, seconds = agent.stop()
        assert code == 0
        assert seconds < 4
        assert "exiting without waiting for a network that does not answer" in agent.log


@pytest.mark.parametrize("answering", [drip_head, drip_body, endless_body], ids=lambda each: each.__name__)
def test_the_doctor_ends_too(answering: Answering, tmp_path: Path) -> None:
    with served(answering) as (address, _):
        done = duxnet("doctor", "--state-dir", tmp_path / "state", DUXNET_REGISTRY__TARGET=address)
    assert done.returncode == 1
    assert f"{address} does not answer" in done.stdout
