"""A real coordinator process for tests, on a port that the system picks, with times scaled down."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

START_SECONDS = 30.0


class Running:
    """`duxnet coordinator` in a state directory; stopped or killed at the end.

    `open_files`: how many it may have. `spoiled_by`: statements that its process runs first.
    """

    def __init__(
        self, state_dir: Path, port: int = 0, open_files: int = 0, spoiled_by: str = "", **settings: object
    ) -> None:
        self.state_dir = state_dir
        self.settings = settings
        self.port = port
        self.open_files = open_files
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.address = ""
        self._spoiled_by = spoiled_by

    def start(self) -> Running:
        environ = {**os.environ, "DUXNET_COORDINATOR__PORT": str(self.port), "HOME": str(self.state_dir)}
        for name, value in self.settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            environ[f"DUXNET_COORDINATOR__{name.upper()}"] = text
        environ.pop("DUXNET_CONFIG", None)
        main = f"{self._spoiled_by}\nimport sys; from duxnet.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "coordinator", "--state-dir", str(self.state_dir)]
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._log_path = self.state_dir.with_suffix(f".log{time.monotonic_ns()}")
        if self.open_files:
            command = ["prlimit", f"--nofile={self.open_files}", *command]
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = re.search(rb"listens on (https?://\S+?);", self._log_path.read_bytes())
            if found:
                self.address = found[1].decode()
                self.port = int(self.address.rpartition(":")[2])
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the coordinator did not start: {self._log_path.read_text()}")

    def output(self) -> str:
        return self._log_path.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def certificate(self) -> str:
        """What it proves itself by over TLS, in PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.port))

    def operator_token(self) -> str:
        return (self.state_dir / "operator.token").read_text().strip()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str = "",
        headers: Optional[Mapping[str, str]] = None,
        raw: Optional[bytes] = None,
    ) -> tuple[int, dict[str, str], Any]:
        """One request: status, lower-case headers, decoded body."""
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        sent = dict(headers or {})
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        if token:
            sent["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.address + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=15) as response:
                return response.status, _lower(response.headers), _decoded(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), _decoded(error.read())

    def __enter__(self) -> Running:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
