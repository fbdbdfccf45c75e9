"""`duxnet key`: what is shown, and a real agent that takes a new key up, for itself and at a real coordinator."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, duxnet, duxnet_process, environment, until


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def told(state_dir: Path, command: str) -> dict[str, Any]:
    done = duxnet("key", command, "--state-dir", state_dir, "--format", "json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain.pop("schema") == "duxnet.key/1.0"
    assert isinstance(plain, dict)
    return plain


def registered(state_dir: Path) -> dict[str, Any]:
    (node,) = json.loads((state_dir / "nodes.json").read_text())["nodes"]
    assert isinstance(node, dict)
    return node


def test_before_the_first_start_there_is_no_key_to_show_and_none_is_made(state_dir: Path) -> None:
    for command in ("show", "rotate"):
        done = duxnet("key", command, "--state-dir", state_dir)
        assert done.returncode == 1
        assert "node.key': does not exist; the first start of the agent makes it" in done.stderr
    assert not state_dir.exists()


@pytest.mark.slow
def test_a_stopped_agent_comes_back_as_the_same_node_with_the_new_key(state_dir: Path) -> None:
    assert duxnet_process("agent", "--once", "--state-dir", state_dir).returncode in (0, 3)
    before = told(state_dir, "show")
    assert before["public_key"] == before["first_public_key"] == registered(state_dir)["public_key"]
    assert (before["replacements"], before["most_replacements"]) == (0, 16)

    done = duxnet("key", "rotate", "--state-dir", state_dir)
    assert done.returncode == 0, done.stderr
    assert "replaced         1 of at most 16 times" in done.stdout
    assert "No agent is running here" in done.stderr
    assert "PRIVATE" not in done.stdout + done.stderr

    after = told(state_dir, "show")
    assert (after["node_id"], after["first_public_key"]) == (before["node_id"], before["public_key"])
    assert after["public_key"] != before["public_key"]
    assert duxnet_process("agent", "--once", "--state-dir", state_dir).returncode in (0, 3)
    assert (registered(state_dir)["id"], registered(state_dir)["public_key"]) == (
        before["node_id"],
        after["public_key"],
    )


def test_a_running_agent_takes_the_new_key_up_when_it_reloads(state_dir: Path) -> None:
    with RunningAgent(state_dir) as agent:
        agent.wait_for_reports()
        done = duxnet("key", "rotate", "--state-dir", state_dir)
        assert f"at once after: kill -HUP {agent.process.pid}" in done.stderr
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("registered again: public_key changed")
        shown = told(state_dir, "show")
        assert (registered(state_dir)["id"], registered(state_dir)["public_key"]) == (
            shown["node_id"],
            shown["public_key"],
        )
        agent.wait_for_reports(2)
        (state_dir / "node.key").rename(state_dir / "away")  # and one that is gone is no reason to stop
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for_log("cannot read the node's key")
        agent.wait_for_reports(2)


IN_A_ROUND = """
import os, sys
from pathlib import Path
from agent.runner import Agent
from agent.settings import load_agent_settings
from duxnet.process.signals import SignalInbox
from registry_core.identity.replace_key import replace_key
agent = Agent(lambda: load_agent_settings(None, {"agent.state_dir": sys.argv[1]}), SignalInbox(), os.environ)
agent.start()
replace_key(Path(sys.argv[1]))
agent._probe(["host"])
agent._reporter.close()
"""


def test_without_a_reload_the_next_round_of_probes_finds_it(state_dir: Path) -> None:
    subprocess.run([sys.executable, "-c", IN_A_ROUND, str(state_dir)], env=environment({}), timeout=50, check=True)
    shown = told(state_dir, "show")
    assert shown["replacements"] == 1
    assert registered(state_dir)["public_key"] == shown["public_key"]


@pytest.mark.slow
def test_at_a_coordinator_the_node_stays_the_same_and_a_copy_from_before_is_refused(
    state_dir: Path, tmp_path: Path
) -> None:
    with Running(tmp_path / "coordinator", shortest_interval_seconds=0.2) as coordinator:
        to_it = ("--registry", coordinator.address)

        def shown() -> dict[str, Any]:
            status, _, node = coordinator.call("GET", f"/v1/nodes/{told(state_dir, 'show')['node_id']}")
            assert status == 200
            assert isinstance(node, dict)
            return node

        with RunningAgent(state_dir, *to_it) as agent:
            agent.wait_for_reports()
            first = shown()
            outcomes = f"/v1/nodes/{first['id']}/outcomes"
            for _ in range(5):
                assert coordinator.call("POST", outcomes, {"success": True}, coordinator.operator_token())[0] == 200
            shutil.copytree(state_dir, tmp_path / "before")
            new_key = told(state_dir, "rotate")["public_key"]
            agent.wait_for_reports(2)
            assert shown()["public_key"] == first["public_key"]  # its session goes on until it registers again
            agent.process.send_signal(signal.SIGHUP)
            agent.wait_for_log("registered again: public_key changed")
            agent.wait_for_reports(2)
            now = shown()
            assert (now["public_key"], now["registered_at"]) == (new_key, first["registered_at"])
            assert now["reputation"] > 3
            agent.stop()
        newest = told(state_dir, "rotate")["public_key"]
        with RunningAgent(state_dir, *to_it) as agent:
            agent.wait_for_reports(2)
            assert shown()["public_key"] == newest
            agent.stop()

        fork = told(tmp_path / "before", "rotate")  # the old key signs another successor
        assert fork["node_id"] == first["id"]
        with RunningAgent(tmp_path / "before", *to_it) as thief:
            thief.wait_for_log("the node's key was replaced, and only the newer one is valid")
        assert shown()["public_key"] == newest
        assert coordinator.call("DELETE", f"/v1/nodes/{first['id']}", token=coordinator.operator_token())[0] == 204
        with RunningAgent(tmp_path / "before", *to_it) as thief:
            thief.wait_for_log("the node's key was replaced, and only the newer one is valid")
        with RunningAgent(state_dir, *to_it) as agent:
            agent.wait_for_reports(2)
            until(lambda: shown()["public_key"] == newest, "the node with its newest key")
