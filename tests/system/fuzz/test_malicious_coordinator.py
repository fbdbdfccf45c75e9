"""Whoever answers at a coordinator's address: no command hangs, grows, acts on a terminal, or ends in a traceback."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry_core.identity.identity_files import ensure_identity
from registry_core.remote import remote_registry
from tests.support.processes import RunningAgent, command, duxnet, environment, until
from tests.support.servers import served
from tests.system.fuzz.malicious import QUICK, SLOW, Spoiling

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(110)]

TOKEN = "dux_operator_" + "s" * 43
LONGEST_SECONDS = 45.0  # on a busy machine; each command's own bound is 12 seconds a call
MOST_ADDRESS_SPACE = 2 << 30
MOST_RESIDENT_KIB = 100 * 1024
SPOILED_EACH = 10

COMMANDS = {
    "list": ("nodes", "list"),
    "list with conditions": ("nodes", "list", "--min-cpu-cores", "2", "--limit", "5"),
    "list as JSON": ("nodes", "list", "--format", "json"),
    "show": ("nodes", "show", "n1a"),
    "explain": ("nodes", "explain", "n1a"),
    "approve": ("nodes", "approve", "n1a"),
    "ban": ("nodes", "ban", "n1a", "--reason", "x"),
    "cordon": ("nodes", "cordon", "n1a", "--reason", "x"),
    "uncordon": ("nodes", "uncordon", "n1a"),
    "remove": ("nodes", "remove", "n1a"),
    "register": ("nodes", "register", "--ip-address", "192.0.2.1", "--id", "n1a"),
    "rate": ("nodes", "update-reputation", "n1a", "--success"),
    "update health": ("nodes", "update-health", "n1a", "--load-average", "1"),
    "wallet message": ("wallet", "message", "n1a"),
    "wallet attach": ("wallet", "attach", "n1a", "0x" + "1" * 130),
    "doctor": ("doctor",),
    "agent": ("agent", "--once"),
}


def arguments(name: str, address: str, place: Path) -> list[str]:
    given = list(COMMANDS[name])
    if given[0] in ("doctor", "agent"):
        return [*given, "--state-dir", str(place)]
    return [*given, "--registry", address]


def environ(address: str, place: Path) -> dict[str, str]:
    return {"HOME": str(place), "DUXNET_REGISTRY__TOKEN": TOKEN, "DUXNET_REGISTRY__TARGET": address}


def refuse_bad(done: subprocess.CompletedProcess[str], what: object) -> None:
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown, (what, shown[-3000:])
    assert "Error: Got unexpected" not in shown
    assert shown.replace("\n", "").replace("\t", "").isprintable(), (what, ascii(shown)[-3000:])
    assert not re.search(r"^FAKE LOG LINE", shown, re.MULTILINE), (what, shown[-3000:])
    assert TOKEN not in shown
    assert len(shown) < 200_000, what
    assert done.returncode in (0, 1, 2, 3), (what, done.returncode)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ensure_identity(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_no_answer_brings_a_command_down(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_registry, "MOST_PAGES", 100)
    for kind, answering in QUICK.items():
        with served(answering) as (address, _heads):
            begun = time.monotonic()
            done = duxnet(*arguments(name, address, place), **environ(address, place))
            refuse_bad(done, (name, kind))
            assert time.monotonic() - begun < LONGEST_SECONDS, (name, kind)
            if kind not in ("same cursor", "fresh cursors"):
                assert done.returncode != 0, (name, kind, done.stdout)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20


@contextlib.contextmanager
def spoiling(answering: Spoiling) -> Iterator[str]:
    """The address of a server that reads bodies too, since what it signs depends on them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
                while True:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        line = stream.readline()
                        if not line:
                            return
                        head += line
                    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
                    body = stream.read(int(length[1]) if length else 0)
                    answering(connection, head[:-4], body)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_spoiled_answer_brings_a_command_down(name: str, place: Path) -> None:
    spoiled = 0
    for seed in range(SPOILED_EACH):
        (place / "remote.json").unlink(missing_ok=True)
        # half of them spoil only what comes after the introduction
        answering = Spoiling(seed, None if seed % 2 else lambda _method, path: path != "/v1/coordinator")
        with spoiling(answering) as address:
            refuse_bad(duxnet(*arguments(name, address, place), **environ(address, place)), (name, seed))
        spoiled += answering.spoiled
    assert spoiled or name == "doctor"


def test_every_command_ends_and_stays_small_before_a_server_that_does_not_end(tmp_path: Path) -> None:
    """Each command before one or two of them, all at once: they wait, they do not work."""

    def run(kind: str, name: str, address: str) -> tuple[str, str, subprocess.CompletedProcess[str]]:
        place = tmp_path / kind / name.replace(" ", "-")
        ensure_identity(place)
        limited = ["prlimit", f"--as={MOST_ADDRESS_SPACE}", *command(*arguments(name, address, place))]
        given = environment(environ(address, place))
        done = subprocess.run(limited, env=given, capture_output=True, text=True, timeout=LONGEST_SECONDS)
        return kind, name, done

    with contextlib.ExitStack() as open_servers:
        addresses = {kind: open_servers.enter_context(served(answering))[0] for kind, answering in SLOW.items()}
        pairs = [(kind, name) for turn, kind in enumerate(SLOW) for name in list(COMMANDS)[turn % 3 :: 3]]
        with ThreadPoolExecutor(len(pairs)) as pool:
            for kind, name, done in pool.map(lambda pair: run(pair[0], pair[1], addresses[pair[0]]), pairs):
                refuse_bad(done, (kind, name))
                assert done.returncode in (1, 3), (kind, name, done.stdout, done.stderr)


def test_an_agent_outlives_spoiled_answers_and_is_well_again(tmp_path: Path) -> None:
    answering = Spoiling(11, lambda method, path: method == "PUT")
    with spoiling(answering) as address:
        flags = ("--registry", address)
        with RunningAgent(tmp_path / "state", *flags, interval=0.2, environ={"HOME": str(tmp_path)}) as agent:
            answering.is_honest = True
            agent.wait_for_reports(2)
            answering.is_honest = False
            wanted = answering.spoiled + 25
            until(lambda: answering.spoiled >= wanted or agent.process.poll() is not None, "answers", 40.0)
            assert agent.process.poll() is None, agent.log
            answering.is_honest = True
            agent.process.send_signal(1)  # SIGHUP: waits that were ordered are forgotten
            agent.wait_for_reports(2)
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{agent.process.pid}/status").read_text())
            assert peak is not None
            assert int(peak[1]) < MOST_RESIDENT_KIB
            assert "Traceback" not in agent.log
            assert agent.log.replace("\n", "").isprintable()
            assert not re.search(r"^FAKE LOG LINE", agent.log, re.MULTILINE)
            assert agent.stop()[0] == 0
