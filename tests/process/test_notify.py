"""What systemd hears, through a socket that stands for its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from duxnet.process.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_each_message_has_the_words_that_systemd_reads(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "3000000"})
    notifier.ready("registered")
    assert manager.recv(4096) == b"READY=1\nSTATUS=registered"
    notifier.status("last report 3 s ago")
    assert manager.recv(4096) == b"STATUS=last report 3 s ago"
    notifier.reloading()
    lines = manager.recv(4096).decode().split("\n")
    assert lines[0] == "RELOADING=1"
    assert lines[1].startswith("MONOTONIC_USEC=")
    notifier.watchdog()
    assert manager.recv(4096) == b"WATCHDOG=1"
    notifier.stopping()
    assert manager.recv(4096).startswith(b"STOPPING=1")


def test_a_line_break_in_a_status_cannot_bring_in_another_word(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).status("fine\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=fine MAINPID=1"


def test_the_abstract_namespace_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"duxnet-test-{os.getpid()}"
        listening.bind("\0" + name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("here")
        assert listening.recv(4096) == b"STATUS=here"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("x")
    notifier.watchdog()


@pytest.mark.parametrize(
    ("usec", "pid", "wanted"),
    [
        ("3000000", "", 3.0),
        ("3000000", "this process", 3.0),
        ("3000000", "1", None),
        ("0", "", None),
        ("x", "", None),
        ("-5", "", None),
        ("", "", None),
    ],
)
def test_the_watchdog_is_meant_for_this_process_or_not(
    usec: str, pid: str, wanted: object, manager: socket.socket
) -> None:
    pid = str(os.getpid()) if pid == "this process" else pid
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert Notifier(environ).watchdog_seconds == wanted
