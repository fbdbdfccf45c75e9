"""A stranger's first walk over several machines: README's section, command by command, with real processes.

Word for word; only the port, the folder and how often the agent reports are others.
"""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.processes import environment, until

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


README = (Path(__file__).parents[2] / "README.md").read_text()
PORT, FOLDER = "8410", "~/node-1"
INTERVAL = "0.5"


def commands_of(section: str) -> list[str]:
    """The commands of a section's first block, without their comments."""
    found = re.search(rf"## {section}\n.*?```sh\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return [line.partition("  #")[0].strip() for line in found[1].splitlines()]


class Terminals:
    """Runs what a stranger would type; what goes on until Ctrl-C is ended at the end."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        self._folder = folder
        self._environ = environment(
            {
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(folder),
                "XDG_STATE_HOME": str(folder / "state"),
                "XDG_CONFIG_HOME": str(folder / "config"),
                "DUXNET_COORDINATOR__PORT": self._port,
                "DUXNET_COORDINATOR__SHORTEST_INTERVAL_SECONDS": INTERVAL,
                "DUXNET_AGENT__INTERVAL_SECONDS": INTERVAL,
            }
        )
        self._open: list[subprocess.Popen[bytes]] = []

    def _here(self, command: str) -> list[str]:
        return shlex.split(command.replace(PORT, self._port).replace(FOLDER, str(self._folder / "node-1")))

    def leave_running(self, command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"terminal-{len(self._open)}.log").open("wb") as log:
            process = subprocess.Popen(self._here(command), env=self._environ, stdout=log, stderr=log)
        self._open.append(process)
        return process

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._here(command), env=self._environ, capture_output=True, text=True, timeout=30)

    def close(self) -> None:
        for process in self._open:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    opened = Terminals(tmp_path)
    yield opened
    opened.close()


@pytest.mark.slow
def test_many_machines_one_registry_as_the_readme_says_and_through_an_outage(terminals: Terminals) -> None:
    install, coordinator, agent, listing = commands_of("Many machines, one registry")
    assert install == ".venv/bin/pip install -e '.[coordinator]'"  # done already, else nothing here would run
    assert "coordinator" in distribution("duxnet-registry").metadata.get_all("Provides-Extra", [])
    first = terminals.leave_running(coordinator)
    terminals.leave_running(agent)
    status = f"duxnet status --state-dir {FOLDER}"

    def lists_it() -> bool:
        found = terminals.type(listing)
        return found.returncode == 0 and " ready " in found.stdout

    until(lists_it, "the node is listed as ready for work")
    node_id = re.search(r"^node +(\w+)", terminals.type(status).stdout, re.MULTILINE)
    assert node_id is not None
    assert terminals.type(listing).stdout.splitlines()[1].startswith(node_id[1][:12])

    first.kill()
    first.wait()
    until(lambda: terminals.type(status).returncode == 3, "status tells of the outage")
    told = terminals.type(status).stdout
    assert re.search(r"^PROBLEM .*cannot be reached", told, re.MULTILINE)
    assert re.search(r"^remedy .*duxnet doctor", told, re.MULTILINE)
    unlisted = terminals.type(listing)
    assert (unlisted.returncode, unlisted.stdout) == (1, "")
    assert "cannot be reached" in unlisted.stderr
    examined = terminals.type(f"duxnet doctor --state-dir {FOLDER}")
    assert "check that the coordinator runs there" in examined.stdout

    terminals.leave_running(coordinator)
    until(lambda: terminals.type(status).returncode == 0, "reports arrive again")
    assert "PROBLEM" not in terminals.type(status).stdout
    until(lists_it, "the node is listed as ready for work again")
