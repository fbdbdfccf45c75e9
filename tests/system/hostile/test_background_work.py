"""Background work that fails or ends: no part takes another with it, and a process without it does not look well."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.coordinators import Running
from tests.support.processes import environment, until
from tests.system.coordinator.test_identity import Signer

INTERVAL = 0.5

DIES = """
import asyncio
import {module} as module
async def dies(*_: object, **__: object) -> None:
    await asyncio.sleep(1.0)
    raise TypeError("spoiled")
module.{name} = dies
"""
FAILS = """
import duxnet.coordinator.background as background
import duxnet.coordinator.coordinator as coordinator
def fails(*_: object) -> None:
    raise TypeError("spoiled")
fails.__name__ = "{name}"
background.BackgroundLoop.{name} = fails
background.FAILING_SECONDS = 6.0
coordinator.OLD_PULSE_SECONDS = 1.5
"""


def ends_with(running: Running) -> int:
    assert running.process is not None
    return running.process.wait(30)


def figure(running: Running, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", running.call("GET", "/metrics")[2], re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("duxnet.coordinator.background", "BackgroundLoop._pulses"),
        ("duxnet.coordinator.background", "BackgroundLoop._chores"),
        ("duxnet.coordinator.background", "BackgroundLoop._looks"),
        ("duxnet.coordinator.server.process", "sweep_connections"),
    ],
)
def test_a_coordinator_whose_background_work_ends_ends_too(tmp_path: Path, module: str, name: str) -> None:
    with Running(tmp_path / "state", spoiled_by=DIES.format(module=module, name=name)) as running:
        assert ends_with(running) == 1
        assert "spoiled" in running.output()
        assert "critical" in running.output()


@pytest.mark.parametrize("name", ["_follow", "_judge", "_pace"])
def test_a_step_that_fails_keeps_no_other_from_being_done_and_is_seen(tmp_path: Path, name: str) -> None:
    with Running(tmp_path / "state", spoiled_by=FAILS.format(name=name), shortest_interval_seconds=INTERVAL) as running:
        silent = Signer(running)
        assert silent.register(interval_seconds=INTERVAL)[0] == 200
        until(lambda: running.call("GET", f"/v1/nodes/{silent.node_id}")[2]["liveness"] == "down", "time goes on", 5.0)
        until(lambda: running.call("GET", "/healthz")[0] == 503, "it does not look well", 5.0)
        status, _, problem = running.call("GET", "/readyz")
        assert (status, problem["type"]) == (503, "urn:duxnet:problem:standing-still")
        assert figure(running, "duxnet_last_pulse_age_seconds") > 1.5
        assert figure(running, "duxnet_background_failures_total") > 1
        assert ends_with(running) == 1  # since it does not get better
        assert running.output().count(f"background work fails: {name.strip('_')}") == 1


def test_a_chore_that_fails_is_told_once_and_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    spoiled_by = FAILS.format(name="_remove_the_gone")
    with Running(tmp_path / "state", spoiled_by=spoiled_by, shortest_interval_seconds=INTERVAL) as running:
        assert Signer(running).register()[0] == 200
        until(lambda: figure(running, "duxnet_background_failures_total") > 3, "it is tried again")
        assert running.call("GET", "/healthz")[0] == 200
        assert figure(running, "duxnet_last_pulse_age_seconds") < 1.5
        assert running.output().count("background work fails: remove_the_gone") == 1
        until(lambda: running.call("GET", "/readyz")[0] == 200, "it is ready")
        assert running.stop() == 0


def test_an_event_that_cannot_be_followed_keeps_no_time_from_passing(tmp_path: Path) -> None:
    spoiled_by = FAILS.format(name="_note")
    with Running(tmp_path / "state", spoiled_by=spoiled_by, shortest_interval_seconds=INTERVAL) as running:
        silent = Signer(running)
        assert silent.register(interval_seconds=INTERVAL)[0] == 200
        until(lambda: running.call("GET", f"/v1/nodes/{silent.node_id}")[2]["liveness"] == "down", "time goes on", 5.0)
        time.sleep(2.0)
        assert running.call("GET", "/healthz")[0] == 200


def test_a_disk_that_hangs_stops_no_pulse(tmp_path: Path) -> None:
    hangs = """
import time
import duxnet.coordinator.access.audit_log as audit_log
audit_log.AuditLog.sync = lambda self: time.sleep(8.0)
"""
    with Running(tmp_path / "state", spoiled_by=hangs, shortest_interval_seconds=INTERVAL) as running:
        silent = Signer(running)
        assert silent.register(interval_seconds=INTERVAL)[0] == 200
        until(lambda: running.call("GET", f"/v1/nodes/{silent.node_id}")[2]["liveness"] == "down", "time goes on", 5.0)
        assert figure(running, "duxnet_last_pulse_age_seconds") < 1.5


def test_an_agent_that_cannot_report_by_its_own_fault_ends(tmp_path: Path) -> None:
    spoiled = """
import sys
import agent.sampler as sampler
taken, take = [], sampler.Sampler.take
def fails(self):
    taken.append(1)
    if len(taken) > 1:
        raise TypeError("spoiled")
    return take(self)
sampler.Sampler.take = fails
from duxnet.cli import main
sys.exit(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", spoiled, "agent", "--state-dir", str(tmp_path / "state"), "--interval", "0.2"],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 1
    assert "reports in a row failed" in ended.stderr
