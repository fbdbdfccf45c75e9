"""What stops the watchdog and what does not, with a real agent and a socket in the place of systemd's.

A registry that hangs and a scheduler that is stuck are in `test_boot`, with systemd itself.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.processes import RunningAgent

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


WATCHDOG_SECONDS = 1.0


def heard_within(manager: socket.socket, seconds: float) -> list[tuple[float, bytes]]:
    """When each message came, in seconds from now."""
    heard = []
    begun = time.monotonic()
    while (left := begun + seconds - time.monotonic()) > 0:
        manager.settimeout(left)
        try:
            heard.append((time.monotonic() - begun, manager.recv(4096)))
        except socket.timeout:
            break
    return heard


def wait_for(manager: socket.socket, word: bytes, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        manager.settimeout(seconds)
        if manager.recv(4096).startswith(word):
            return
    raise AssertionError(f"no {word!r} within {seconds} s")


@pytest.mark.slow
def test_a_mount_that_never_answers_stops_neither_start_nor_watchdog_nor_reload(
    silent_mount: Path, tmp_path: Path
) -> None:
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)),
        "DUXNET_AGENT__WORK_DIR": str(silent_mount / "jobs"),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with RunningAgent(tmp_path / "state", interval=0.5, environ=environ) as agent:
            wait_for(manager, b"READY=1", 40)
            fed = [moment for moment, message in heard_within(manager, 4.0) if message == b"WATCHDOG=1"]
            gaps = [later - earlier for earlier, later in zip([0.0, *fed], [*fed, 4.0])]
            assert max(gaps) < WATCHDOG_SECONDS, f"systemd would have ended it: {agent.log}"
            agent.process.send_signal(signal.SIGHUP)
            wait_for(manager, b"RELOADING=1", 10)
            wait_for(manager, b"READY=1", 30)
            assert agent.stop()[0] == 0
