"""What a running agent costs: catches memory that grows, imports that creep in, and a schedule that wakes too often.

Runs `duxnet agent` with an embedded registry and with a coordinator (no terminal) beside prometheus-node-exporter,
glances and collectd where they are installed, each as its users would run it every 15 s, and reads what the kernel says
of them at the end.
`python -m benchmarks.agent --seconds 600`
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

INTERVAL_SECONDS = 15.0
WARM_UP_SECONDS = 5.0  # starting is not running
MOST_MIB = {"embedded": 45.0, "coordinator": 60.0}
MOST_PERCENT = 0.05

INTERVAL = ("--interval", f"{INTERVAL_SECONDS:g}")

COLLECTD = """
Hostname "benchmark"
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval 15
LoadPlugin cpu
LoadPlugin df
LoadPlugin load
LoadPlugin memory
LoadPlugin uptime
"""


@dataclass(frozen=True)
class Cost:
    """Of one process at the end of the run. `cpu_percent` is of one core, since the warm-up."""

    name: str
    resident_mib: float
    proportional_mib: float
    cpu_percent: float
    threads: int


class Subject:
    """A program that runs for the whole time."""

    def __init__(self, name: str, arguments: list[str], environ: Optional[dict[str, str]] = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environ or {})},
        )
        self._cpu_seconds_at_start = 0.0
        self._started = time.monotonic()

    def warmed_up(self) -> None:
        """From here on CPU time counts."""
        self._cpu_seconds_at_start = self._cpu_seconds()
        self._started = time.monotonic()

    def cost(self) -> Cost:
        """What the kernel says now."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self.name} ended early, with code {self._process.returncode}")
        share = (self._cpu_seconds() - self._cpu_seconds_at_start) / (time.monotonic() - self._started)
        return Cost(
            self.name,
            self._kib("status", "VmRSS:") / 1024,
            self._kib("smaps_rollup", "Pss:") / 1024,
            100 * share,
            self._kib("status", "Threads:"),
        )

    def end(self) -> None:
        """Stop it and wait."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _kib(self, file: str, label: str) -> int:
        text = Path(f"/proc/{self._process.pid}/{file}").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(label))

    def _cpu_seconds(self) -> float:
        """User and system time of all its threads, ended ones too, and of children that it waited for."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _peers(folder: Path, port: int) -> list[Subject]:
    """The peers that are installed here."""
    found = []
    exporter = shutil.which("prometheus-node-exporter")
    if exporter:
        listen = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        found.append(Subject("prometheus-node-exporter, scraped", [exporter, *listen]))
    glances = shutil.which("glances")
    if glances:
        shown = "cpu.user,mem.used,load"
        found.append(Subject("glances --stdout", [glances, "--stdout", shown, "--time", f"{INTERVAL_SECONDS:g}"]))
    collectd = shutil.which("collectd")
    if collectd:
        (folder / "collectd.conf").write_text(COLLECTD.format(folder=folder))
        found.append(Subject("collectd, 5 plugins", [collectd, "-f", "-C", str(folder / "collectd.conf")]))
    return found


def _scrape(port: int, until: float) -> None:
    """What a Prometheus server would do to the exporter."""
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                answer.read()
        except OSError:
            pass
        time.sleep(INTERVAL_SECONDS)


def measure(seconds: float) -> list[Cost]:
    """The two agents first, then the peers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port + 1}"
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        coordinator = Subject("coordinator", _duxnet("coordinator", folder, "--port", str(port + 1)))
        subjects = [
            Subject("duxnet agent, embedded", _duxnet("agent", folder / "embedded", *INTERVAL)),
            Subject("duxnet agent, coordinator", _duxnet("agent", folder / "remote", *INTERVAL, "--registry", address)),
        ]
        try:
            subjects += _peers(folder, port)
            threading.Thread(target=_scrape, args=(port, time.monotonic() + seconds), daemon=True).start()
            time.sleep(WARM_UP_SECONDS)
            for subject in subjects:
                subject.warmed_up()
            time.sleep(seconds)
            return [subject.cost() for subject in subjects]
        finally:
            for subject in subjects:
                subject.end()
            coordinator.end()


def _duxnet(command: str, state_dir: Path, *options: str) -> list[str]:
    call = "import sys; from duxnet.cli import main; sys.exit(main())"
    return [sys.executable, "-c", call, command, "--state-dir", str(state_dir), *options]


def main() -> int:
    """Print the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to watch (default 600)")
    seconds = parser.parse_args().seconds
    costs = measure(seconds)
    print(f"after {seconds:g} s, one report every {INTERVAL_SECONDS:g} s, Python {sys.version.split()[0]}")
    print(f"{'':34} {'RSS MiB':>8} {'PSS MiB':>8} {'CPU %':>7} {'threads':>8}")
    for cost in costs:
        figures = f"{cost.resident_mib:8.1f} {cost.proportional_mib:8.1f} {cost.cpu_percent:7.3f} {cost.threads:8d}"
        print(f"{cost.name:34} {figures}")
    good = True
    for (name, most_mib), ours in zip(MOST_MIB.items(), costs):
        met = ours.resident_mib <= most_mib and ours.cpu_percent <= MOST_PERCENT
        print(f"{name}: at most {most_mib:g} MiB and {MOST_PERCENT:g} % of a core: {'met' if met else 'MISSED'}")
        good = good and met
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
