"""How heavy the agent is: what it must not load, each with the reason, and what it may hold in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, environment

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


NOT_LOADED = {
    "cryptography": "6 MiB: the key is made by a child, and an embedded registry needs no signature",
    "duxnet.coordinator": "another part of the project",
    "evaluation": "not shipped",
    "httpcore": "what httpx stands on",
    "httpx": "15 MiB: only a registry over the network needs it; it also loads click and rich",
    "pynvml": "14 MiB, and a faulty library would take the agent with it: it runs in a child",
    "rich": "drawing that an agent without terminal never needs",
    "sqlite3": "only a registry in SQLite needs it",
    "uvicorn": "the coordinator's",
    "yaml": "nothing here reads it",
}

MOST_RESIDENT_KIB = 45 * 1024  # of an agent with an embedded registry on Python 3.11, from its first start on
MOST_REMOTE_KIB = 60 * 1024  # of one that reports to a coordinator


def test_an_agent_with_an_embedded_registry_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    script = (
        "import json, sys; from duxnet.cli import main;"
        f"code = main(['agent', '--once', '--state-dir', {str(tmp_path / 'state')!r}]);"
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment({}), capture_output=True, text=True)
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert code in (0, 3), done.stderr
    too_much = {name: NOT_LOADED[name] for name in NOT_LOADED if name in loaded}
    assert not too_much


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the figure is promised for Python 3.11")
def test_it_stays_under_45_mib_from_the_first_start(tmp_path: Path) -> None:
    with RunningAgent(tmp_path / "state", interval=0.2) as agent:
        agent.wait_for_reports(10)
        assert _resident_kib(agent) <= MOST_RESIDENT_KIB
        children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text()
        assert children == ""  # no second process to hide the weight in


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the figure is promised for Python 3.11")
def test_it_stays_under_60_mib_with_a_coordinator(tmp_path: Path) -> None:
    with (
        Running(tmp_path / "coordinator", shortest_interval_seconds=0.2) as running,
        RunningAgent(tmp_path / "state", "--registry", running.address, interval=0.2) as agent,
    ):
        agent.wait_for_reports(20)
        assert _resident_kib(agent) <= MOST_REMOTE_KIB


def _resident_kib(agent: RunningAgent) -> int:
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return resident
