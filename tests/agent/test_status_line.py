"""The line that is kept up to date in a terminal: drawn in a real one, and cut to its width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from agent.status_line import StatusLine
from tests.support.processes import command, environment

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


class Terminal:
    """A pseudo-terminal with an agent in it."""

    def __init__(self, state_dir: Path, columns: int) -> None:
        self.main, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        arguments = command("agent", "--state-dir", state_dir, "--interval", "0.2")
        self.process = subprocess.Popen(
            arguments, stdin=inner, stdout=inner, stderr=inner, env=environment({}), start_new_session=True
        )
        os.close(inner)
        self.text = ""

    def read_until(self, pattern: str) -> None:
        end = time.monotonic() + 20
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.main], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.main, 65536).decode("utf-8", "replace")
                except OSError:  # the agent has left
                    assert re.search(pattern, self.text), self.text

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)


def test_the_line_says_who_what_last_and_next_and_is_replaced(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "state", 200)
    try:
        terminal.read_until(r"\r\x1b\[2Kn1[a-z0-9]+… on .*CPU.*GB memory.*load .*, memory \d.* s ago\) · next in \d")
        terminal.text = ""
        terminal.read_until(r"(?s)\r\x1b\[2Kn1.*\r\x1b\[2Kn1")
        assert not re.search(r"n1[a-z0-9]+… on [^\r\n]*\r?\n", terminal.text)  # replaced, and never left behind
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until(r"stopped after \d+ delivered")
        assert terminal.process.wait(timeout=10) == 0
    finally:
        terminal.close()


def test_in_a_narrow_terminal_no_line_is_wider_than_it_and_the_news_stay(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "state", 60)
    try:
        terminal.read_until(r"(?s)\r\x1b\[2Kload [^\r\n]* next in.*\r\x1b\[2Kload ")
        drawn = re.findall(r"\r\x1b\[2K(load [^\r\n]*)", terminal.text)
        assert drawn
        assert all(len(line) < 60 for line in drawn[:-1])
    finally:
        terminal.close()


class _Screen:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...

    def fileno(self) -> int:
        raise OSError("no terminal")


def test_the_first_wording_that_fits_is_shown_and_the_last_is_cut() -> None:
    screen = _Screen()  # 80 columns when it is no terminal
    line = StatusLine(screen)  # type: ignore[arg-type]  # what it uses of a TextIO
    line.show("a" * 80, "b" * 79, "c")
    line.show("a" * 200, "b" * 100)
    assert screen.text == "\r\x1b[2K" + "b" * 79 + "\r\x1b[2K" + "b" * 78 + "…"


def test_log_lines_go_above_the_line() -> None:
    screen = _Screen()
    line = StatusLine(screen)  # type: ignore[arg-type]  # what it uses of a TextIO
    line.show("working")
    line.above("log")
    assert screen.text == "\r\x1b[2Kworking\r\x1b[2Klog\nworking"


def test_a_line_that_did_not_change_is_not_drawn_again_and_acts_on_nothing() -> None:
    screen = _Screen()
    line = StatusLine(screen)  # type: ignore[arg-type]  # the same
    line.show("a\x1b[2Jb")
    line.show("a\x1b[2Jb")
    assert screen.text == "\r\x1b[2Ka\\x1b[2Jb"
