"""Real agents whose clock is an hour off, at a real coordinator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.coordinators import Running
from tests.support.fake_fleet import Followed
from tests.support.moved_clock import MovableClock
from tests.support.processes import RunningAgent, duxnet_process, until

INTERVAL = 0.5
HOUR = 3600.0


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [-HOUR, HOUR], ids=["an-hour-behind", "an-hour-ahead"])
def test_a_node_whose_clock_is_an_hour_off_gets_in_reports_and_is_told_so(wrong: float, tmp_path: Path) -> None:
    clock = MovableClock(tmp_path)
    clock.move(wall=wrong)
    state = tmp_path / "agent"
    with Running(tmp_path / "coordinator", shortest_interval_seconds=INTERVAL) as running:
        events = Followed(running)
        with RunningAgent(state, "--registry", running.address, interval=INTERVAL, environ=clock.environ) as agent:
            status = agent.wait_for_reports(3)
            assert (status["problem"], status["reports_failed"]) == (None, 0)
            node = shown(running, status["node_id"])
            assert (node["liveness"], node["health"]["conditions"]["memory"]) == ("live", "ok")
            told = duxnet_process("status", "--state-dir", state, **clock.environ)
            assert told.returncode == 0, told.stdout
            assert_the_difference_is_told(state, clock, wrong)
            clock.move()  # it is set right, and the node has to register again: nothing was tied to the wrong time
            running.call("DELETE", f"/v1/nodes/{status['node_id']}", token=running.operator_token())
            until(lambda: shown(running, status["node_id"]), "registered again")
            assert agent.wait_for_reports(2)["problem"] is None
            assert [event for event in events.read().events if event["kind"] == "liveness"] == []


def assert_the_difference_is_told(state: Path, clock: MovableClock, wrong: float) -> None:
    told = duxnet_process("doctor", "--state-dir", state, "--format", "json", **clock.environ)
    found = [each for each in json.loads(told.stdout)["findings"] if each["check"] == "clock"]
    assert [each["state"] for each in found] == ["problem"], told.stdout
    assert f"{'behind' if wrong < 0 else 'ahead'}" in found[0]["summary"]
    assert found[0]["remedy"]


def shown(running: Running, node_id: str) -> dict[str, Any]:
    status, _, node = running.call("GET", f"/v1/nodes/{node_id}")
    return node if status == 200 else {}
