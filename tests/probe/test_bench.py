"""`--bench`: figures with their spread and conditions, a reason for what is not measured, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.bench import measure
from agent.bench.measure import NEEDS_BLAKE3, Deadline, bench
from agent.bench.text import bench_text
from agent.bench.worker import cpu_step, seeded_buffer
from agent.probe.live_source import LiveSource
from agent.probe.reading import Reading
from agent.probe.report import ProbeReport
from tests.probe.test_recordings import RECORDINGS

RUN = "import sys; from duxnet.cli import main; sys.exit(main(['probe', *sys.argv[1:]]))"


def report(**values: Any) -> ProbeReport:
    told = {"cpu_cores": 1, "memory_available_gb": 1.0, "storage_available_gb": 5.0, "gpu_enabled": False, **values}
    return ProbeReport(tuple(Reading(name, value) for name, value in told.items()), ())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_LANE_SECONDS", 0.05)
    monkeypatch.setattr(measure, "_DISK_SECONDS", 0.05)
    monkeypatch.setattr(measure, "_ROUNDS", 2)


def test_a_step_is_a_chain_that_only_its_seed_decides() -> None:
    buffer = seeded_buffer(b"seed")
    first = cpu_step(bytes(32), buffer)
    assert first == cpu_step(bytes(32), buffer)
    assert first.hex() == "38e67f52021e770548196058676cc951e62aeb52ec8608ee47d8103f8593f943"
    assert len({first, cpu_step(first, buffer), cpu_step(bytes(32), seeded_buffer(b"other"))}) == 3


@pytest.mark.usefixtures("short")
def test_every_measurement_has_a_value_with_its_spread_or_a_reason(tmp_path: Path) -> None:
    found = bench(LiveSource(), report(), str(tmp_path / "not" / "there"))
    assert set(found["measured"]) >= {
        "cpu_one_lane",
        "cpu_all_lanes",
        "memory_one_lane",
        "disk_write",
        "disk_read",
        "gpu",
    }
    for name, one in found["measured"].items():
        if name == "gpu":
            assert one == {"not_measured": "no usable GPU"}
            continue
        assert one["value"] == max(one["rounds"]) > 0, (name, one)
        assert 0 <= one["spread"] < 1
    assert found["conditions"]["lanes"] == 1
    assert list(tmp_path.iterdir()) == []
    text = bench_text(found)
    assert "not measured: no usable GPU" in text
    assert "steps/s" in text
    json.dumps(found, allow_nan=False)


@pytest.mark.usefixtures("short")
def test_without_blake3_the_cpu_is_not_measured_and_the_reason_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "find_spec", lambda name: None)
    found = bench(LiveSource(), report(gpu_enabled=True), str(tmp_path))["measured"]
    assert found["cpu_one_lane"] == found["cpu_all_lanes"] == {"not_measured": NEEDS_BLAKE3}
    assert found["gpu"] == {"not_measured": "needs torch, which is not installed"}
    assert found["memory_one_lane"]["value"] > 0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"storage_available_gb": 0.5}, "less than 1 GB is free"),
        ({"storage_available_gb": None}, "the work directory's storage is unknown"),
    ],
)
def test_a_disk_without_room_is_left_alone(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    found = measure._disk(str(tmp_path), {"storage_available_gb": 5.0, **values}, Deadline(5))
    assert found == {"disk_write": {"not_measured": reason}, "disk_read": {"not_measured": reason}}


def test_a_worker_that_fails_or_hangs_is_a_reason_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure._rounds("disk_read", str(tmp_path / "absent"), 1, 0.1, "reads/s", 1.0, Deadline(5))
    assert found["not_measured"].startswith("FileNotFoundError: ")
    script = tmp_path / "worker.py"
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(measure, "_WORKER", script)
    before = time.monotonic()
    found = measure._rounds("cpu", "x", 2, 0.1, "steps/s", 1.0, Deadline(1))
    assert found == {"not_measured": "the worker was not ready in time"}
    assert time.monotonic() - before < 4


def test_nothing_begins_when_the_time_is_over() -> None:
    over = measure._rounds("cpu", "x", 1, 0.5, "steps/s", 1.0, Deadline(0.1))
    assert over == {"not_measured": "the time limit for all measurements was reached"}


def test_a_recording_is_not_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--bench", "--root", str(RECORDINGS / "arm-board")], capture_output=True
    )
    assert done.returncode == 2
    assert b"recording" in done.stderr


@pytest.mark.slow
def test_the_whole_takes_less_than_20_seconds(tmp_path: Path) -> None:
    before = time.monotonic()
    command = [sys.executable, "-c", RUN, "--bench", "--format", "json", "--work-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True)
    assert time.monotonic() - before < 20
    found = json.loads(done.stdout)["bench"]
    assert found["measured"]["cpu_all_lanes"]["value"] >= found["measured"]["cpu_one_lane"]["value"] * 0.5
