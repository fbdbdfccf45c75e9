"""Two real agents with one identity: a state directory that was copied to another machine, and on the same one."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, duxnet, until
from tests.support.requirements import need_program

INTERVAL = 0.5


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "coordinator", shortest_interval_seconds=INTERVAL) as running:
        yield running


class Machine:
    """A machine-id of its own over this machine's: all by which an agent tells one machine from a copy of it."""

    def __init__(self, path: Path) -> None:
        unshare = need_program("unshare", "util-linux")
        flags = ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]
        path.write_text(secrets.token_hex(16) + "\n")
        if not Path("/etc/machine-id").exists():
            pytest.skip("needs /etc/machine-id")
        mount = 'mount --bind "$0" /etc/machine-id && exec "$@"'
        self.wrapper = [unshare, *flags, "sh", "-c", mount, str(path)]
        trial = subprocess.run([*self.wrapper, "true"], capture_output=True, text=True)
        if trial.returncode != 0:
            pytest.skip(f"cannot be another machine here: {trial.stderr.strip()}")


def an_agent(state: Path, running: Running, machine: Optional[Machine] = None) -> RunningAgent:
    wrapper = machine.wrapper if machine is not None else ()
    return RunningAgent(state, "--registry", running.address, interval=INTERVAL, wrapper=wrapper)


def refused(running: Running, kind: str) -> int:
    """How often the coordinator refused something for this reason."""
    lines = [line for line in running.call("GET", "/metrics")[2].splitlines() if f'kind="{kind}"' in line]
    return sum(int(line.rpartition(" ")[2]) for line in lines)


def shown(running: Running, node_id: str) -> dict[str, Any]:
    status, _, node = running.call("GET", f"/v1/nodes/{node_id}")
    assert status == 200
    assert isinstance(node, dict)
    return node


@pytest.mark.slow
def test_a_copy_on_another_machine_is_refused_with_a_remedy_while_the_first_is_live(
    coordinator: Running, tmp_path: Path
) -> None:
    first, second = Machine(tmp_path / "one"), Machine(tmp_path / "two")
    original, copy = tmp_path / "original", tmp_path / "copy"
    with an_agent(original, coordinator, first) as holder:
        node_id = holder.wait_for_reports(1)["node_id"]
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns("agent.json"))
        with an_agent(copy, coordinator, second) as copied:
            status = until(lambda: (s := copied.status()).get("problem") and s, "a problem")
            assert status["node_id"] == node_id
            told = duxnet("status", "--state-dir", copy)
            assert told.returncode == 3
            assert "remove node.key and node.id" in told.stdout
            assert "was used on another machine before" in told.stdout
            seen = coordinator.call("GET", f"/v1/nodes/{node_id}", token=coordinator.operator_token())[2]
            for address in {seen["ip_address"], *seen["addresses"], "127.0.0.1"}:
                for words in (status["problem"], told.stdout, copied.log):
                    assert address not in words.replace(coordinator.address, "")
            assert refused(coordinator, "duplicate-identity") >= 1
            holder.wait_for_reports(3)  # it keeps what is its own
            assert copied.status()["reports_delivered"] == 0
        assert holder.status()["problem"] is None
        assert refused(coordinator, "session-expired") == 0
        holder.stop()  # it takes leave
        with an_agent(copy, coordinator, second) as moved:
            assert moved.wait_for_reports(1)["problem"] is None  # now it is no copy: the node has moved
            assert shown(coordinator, node_id)["liveness"] == "live"


def test_a_second_start_on_the_same_machine_takes_over_at_once_and_ends_the_session_before(
    coordinator: Running, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "one")
    original, copy = tmp_path / "original", tmp_path / "copy"
    with an_agent(original, coordinator, machine) as before:
        node_id = before.wait_for_reports(1)["node_id"]
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns("agent.json"))
        before.process.send_signal(signal.SIGSTOP)  # it hangs, and its session is still good
        assert shown(coordinator, node_id)["liveness"] == "live"
        with an_agent(copy, coordinator, machine) as after:
            assert after.wait_for_reports(1)["reports_failed"] == 0
            assert refused(coordinator, "duplicate-identity") == 0
            assert refused(coordinator, "session-expired") == 0
            before.process.send_signal(signal.SIGCONT)
            until(lambda: refused(coordinator, "session-expired") >= 1, "the session before is void")


@pytest.mark.slow
def test_two_agents_that_share_an_identity_on_one_machine_are_flagged_and_told(
    coordinator: Running, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "one")
    original, copy = tmp_path / "original", tmp_path / "copy"
    with an_agent(original, coordinator, machine) as one:
        node_id = one.wait_for_reports(1)["node_id"]
        shutil.copytree(original, copy, ignore=shutil.ignore_patterns("agent.json"))
        with an_agent(copy, coordinator, machine) as other:
            cordoned = until(lambda: shown(coordinator, node_id)["cordon"], "the node is cordoned")
            assert "two agents take turns" in cordoned["reason"]
            for agent in (one, other):
                until(lambda: any("take turns" in note for note in agent.status()["warnings"]), "the agent knows")  # noqa: B023 - asked in its turn
            one.wait_for_reports(3)  # they go on, and the log does not grow by a line for each turn
            audit = (coordinator.state_dir / "audit.jsonl").read_text()
            assert audit.count('"contested"') == 1


@pytest.mark.slow
def test_an_agent_that_is_started_again_and_again_is_no_copy(coordinator: Running, tmp_path: Path) -> None:
    for _ in range(6):
        with an_agent(tmp_path / "agent", coordinator) as agent:
            node_id = agent.wait_for_reports(1)["node_id"]
            agent.process.kill()
    assert shown(coordinator, node_id)["cordon"] is None
