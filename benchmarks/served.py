"""A coordinator served for a measurement: its state made beforehand, its process on one core, wrk on the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.identity.tokens import SessionToken, seal_session
from registry_core.models.node import Node, NodeCapabilities

__all__ = ["CLIENT_CORE", "SAMPLE", "SERVER_CORE", "Prepared", "Server", "wrk"]

SERVER_CORE, CLIENT_CORE = "0", "1"
SAMPLE = '"load_average":1.25,"memory_usage":41.5,"disk_usage":63.2'


class Server:
    """A process pinned to the server's core."""

    def __init__(self, command: list[str], port: int, environ: dict[str, str]) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command],
            env={**os.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        begun = time.monotonic()
        deadline = begun + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(self.address + "/healthz", timeout=1):
                    break
            except OSError as error:
                if "refused" not in str(error):  # a baseline knows no /healthz
                    break
                time.sleep(0.1)
        else:
            raise SystemExit("the server did not start")
        self.start_seconds = time.monotonic() - begun

    def metric(self, name: str) -> float:
        """One figure of /metrics."""
        with urllib.request.urlopen(self.address + "/metrics", timeout=5) as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def resident_mib(self) -> float:
        """Memory of the process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time so far: what a request costs of a core, whoever else is on it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def per_core(self, script: Path, seconds: float, connections: int = 32) -> dict[str, float]:
        """As `wrk`, with `rate` per second of processor time: what a whole core would serve."""
        before = self.cpu_seconds()
        found = wrk(self.address, script, seconds, connections)
        return {**found, "rate": found["count"] / (self.cpu_seconds() - before)}

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def wrk(address: str, script: Path, seconds: float, connections: int = 32) -> dict[str, float]:
    """Requests a second, the 99th percentile in ms, and answers that were no success."""
    command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"]
    text = subprocess.run([*command, "-s", str(script), address], capture_output=True, text=True, check=True).stdout
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", text)[0])
    value, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", text)[0]
    bad = re.findall(r"Non-2xx or 3xx responses: (\d+)", text)
    count = float(re.findall(r"(\d+) requests in", text)[0])
    return {
        "rate": rate,
        "count": count,
        "p99": float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit],
        "bad": int(bad[0]) if bad else 0,
    }


def _a_node(node_id: str, number: int) -> Node:
    offer = NodeCapabilities(1 + number % 64, 1.0 + number * 7 % 256, 10.0 + number * 13 % 2000)
    return Node(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", id=node_id, capabilities=offer)


class Prepared:
    """A state directory with registered nodes and a session for each, made without the network."""

    def __init__(self, folder: Path, count: int) -> None:
        self.state = folder / "state"
        self.tokens = folder / "tokens"
        self.folder = folder
        self.count = count
        coordinator = open_coordinator(CoordinatorSettings(state_dir=str(self.state)))
        self.coordinator = coordinator.identity.id
        expires = int(time.time()) + 86_400
        with self.tokens.open("w") as tokens:
            for start in range(0, count, 10_000):
                with coordinator.registry.batch():
                    for number in range(start, min(count, start + 10_000)):
                        node_id = f"n{number:07d}"
                        node = _a_node(node_id, number)
                        coordinator.registry.host.register(node, interval_seconds=5.0, state={"generation": 1})
                        token = SessionToken(node_id, 1, expires)
                        tokens.write(seal_session(token, coordinator.identity.secret) + "\n")
        coordinator.close()

    @contextmanager
    def served(self, port: int, **settings: object) -> Iterator[Server]:
        """A coordinator over this state."""
        main = "import sys; from duxnet.cli import main; sys.exit(main())"
        environ = {f"DUXNET_COORDINATOR__{name.upper()}": str(value) for name, value in settings.items()}
        environ["DUXNET_COORDINATOR__PORT"] = str(port)
        server = Server([sys.executable, "-c", main, "coordinator", "--state-dir", str(self.state)], port, environ)
        try:
            yield server
        finally:
            server.stop()

    def script(self, text: str, **values: object) -> Path:
        """A script for wrk."""
        path = self.folder / f"{time.monotonic_ns()}.lua"
        path.write_text(
            text % {"tokens": self.tokens, "sample": SAMPLE, "delay": "", "more": "", **values} if values else text
        )
        return path
