"""A real agent whose disk does not answer: it goes on reporting what it can, and leaves in time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import RunningAgent, environment, until

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


# The command as it is, but for a registry that hangs when it is closed, as on a disk that does not answer.
HANGS_AT_THE_END = """
import sys, time
from registry_core.embedded.node_registry import NodeRegistry
NodeRegistry.close = lambda self: time.sleep(60)
from duxnet.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_work_directory_that_never_answers_costs_only_its_own_gauge(silent_mount: Path, tmp_path: Path) -> None:
    environ = {"DUXNET_AGENT__WORK_DIR": str(silent_mount / "jobs")}
    with RunningAgent(tmp_path / "state", environ=environ) as agent:
        status = agent.wait_for_reports(2)
        assert status["sample"]["disk_usage"] is None
        assert status["sample"]["memory_usage"] > 0
        assert any(failure.startswith("disk: ") for failure in status["sample"]["failures"])
        assert status["conditions"]["disk"] == "unknown"
        assert any("no answer" in error for error in status["probe_errors"])
        code, seconds = agent.stop()
        assert code == 0
        assert seconds < 2


def test_a_disk_that_hangs_at_the_end_does_not_keep_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        HANGS_AT_THE_END,
        "agent",
        "--state-dir",
        str(tmp_path / "state"),
        "--interval",
        "0.2",
    ]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment({}), stderr=stream)
    try:
        until(lambda: "reported" in log.read_text(), "a report")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 2
        assert "exiting without waiting for a disk that does not answer" in log.read_text()
    finally:
        process.kill()
        process.wait()
