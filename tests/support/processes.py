"""A real `duxnet agent` in a process of its own, for tests: started, watched, signalled, always ended."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar
from unittest import mock

from duxnet.cli import main

T = TypeVar("T")

PATIENCE_SECONDS = 20.0  # other work may share the machine; nothing waits this long when all is well


def duxnet(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process: starting one for each row of a table costs more than what it does.

    Streams, environment, signals and logging are a fresh process's, and afterwards what they were.
    """
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(environ), clear=True),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        _signals_and_logging_restored(),
    ):
        code = main([str(argument) for argument in arguments])
    texts = [stream.buffer.getvalue().decode() for stream in (output, errors)]
    return subprocess.CompletedProcess(list(map(str, arguments)), code, *texts)


@contextlib.contextmanager
def _signals_and_logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in signals.items():
            signal.signal(number, handler)
        root.handlers[:] = handlers
        root.setLevel(level)


def duxnet_process(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own: for what its start, its signals or its children do."""
    return subprocess.run(
        command(*arguments), env=environment(environ), capture_output=True, text=True, timeout=30, check=False
    )


def command(*arguments: object) -> list[str]:
    """The command line that runs this interpreter's duxnet."""
    return [sys.executable, "-c", "import sys; from duxnet.cli import main; sys.exit(main())", *map(str, arguments)]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would lead to another agent's files."""
    ours = ("DUXNET_", "XDG_", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG", "JOURNAL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "HOME": "/nonexistent", **more}


def until(found: Callable[[], Optional[T]], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """What `found` returns once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


class RunningAgent:
    """Its log is in `log`, its state directory in `state_dir`. `wrapper`: a command that ends by executing it."""

    def __init__(
        self,
        state_dir: Path,
        *flags: object,
        interval: float = 0.2,
        environ: Optional[Mapping[str, str]] = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.state_dir = state_dir
        self._log_path = state_dir.with_name(f"{state_dir.name}-{time.monotonic_ns()}.log")
        arguments = [*wrapper, *command("agent", "--state-dir", state_dir, "--interval", interval, *flags)]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                arguments, env=environment(environ or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> RunningAgent:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log_path.read_text("utf-8", "replace")

    def status(self) -> dict[str, Any]:
        """What it last wrote; empty before it wrote anything."""
        try:
            plain = json.loads((self.state_dir / "agent.json").read_bytes())
        except FileNotFoundError:
            return {}
        assert isinstance(plain, dict)
        return plain

    def wait_for_reports(self, more: int = 1) -> dict[str, Any]:
        """The status after `more` further delivered reports of this process."""

        def delivered() -> int:
            status = self.status()
            return int(status["reports_delivered"]) if status.get("pid") == self.process.pid else 0

        wanted = delivered() + more
        until(lambda: delivered() >= wanted, f"report {wanted} (log: {self.log})")
        return self.status()

    def wait_for_log(self, text: str) -> None:
        until(lambda: text in self.log, f"{text!r} in the log: {self.log}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code and how many seconds the end took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        return code, time.monotonic() - begun
