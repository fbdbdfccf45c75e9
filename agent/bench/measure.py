"""The measurements of `duxnet probe --bench`: several rounds of each, the best one with its spread, and the conditions.

A measurement that is not possible has a reason instead. All of them take less than 20 seconds. A lane is one of the
processes that work in parallel; `worker.py` does the work of one.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

from agent.probe.report import ProbeReport
from agent.probe.source import Source, SourceError

__all__ = ["SCHEMA", "bench"]

SCHEMA = "duxnet.bench/1.0"
ALL_SECONDS = 19.0
_WORKER = Path(__file__).with_name("worker.py")
_ROUNDS = 3
_LANE_SECONDS = 0.5
_DISK_SECONDS = 1.5
_GPU_SECONDS = 1.0
_READY_SECONDS = 6.0
_COPY_BYTES = 128 * 1024 * 1024
_ROOM_BYTES = 1 << 30  # minimum free space for the disk measurements
_MOST_LANES = 512
_BUSY_SHARE = 0.25  # a busier machine is running something else, and the figures mean little
NEEDS_BLAKE3 = "needs blake3: pip install blake3"


@dataclass(frozen=True)
class Lane:
    """The result of one worker, or the reason why there is none."""

    result: dict[str, Any]

    @property
    def failed(self) -> Optional[str]:
        """The reason of a failure; None if it worked."""
        reason = self.result.get("failed")
        return str(reason) if reason is not None else None

    @property
    def rate(self) -> float:
        """Units of work per second."""
        return float(self.result["done"]) / float(self.result["seconds"])


class Deadline:
    """The time that is left for all measurements."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - time.monotonic())


def bench(source: Source, report: ProbeReport, work_dir: str) -> dict[str, Any]:
    """The JSON of `--bench`: the conditions, and a figure or a reason for each measurement."""
    start, deadline = time.monotonic(), Deadline(ALL_SECONDS)
    values = {reading.name: reading.value for reading in report.readings}
    lanes = max(1, min(_MOST_LANES, values.get("cpu_cores") or 1))
    conditions = _conditions(source, values, lanes)
    size = min(_COPY_BYTES, int((values.get("memory_available_gb") or 1.0) * 1e9 / (4 * lanes)) // 4096 * 4096)
    measured = {
        "cpu_one_lane": _cpu(1, deadline),
        "cpu_all_lanes": _cpu(lanes, deadline),
        "memory_one_lane": _memory(1, size, deadline),
        "memory_all_lanes": _memory(lanes, size, deadline),
        **_disk(work_dir, values, deadline),
        "gpu": _gpu(values, deadline),
    }
    return {
        "schema": SCHEMA,
        "seconds": round(time.monotonic() - start, 1),
        "conditions": conditions,
        "measured": measured,
    }


def _conditions(source: Source, values: dict[str, Any], lanes: int) -> dict[str, Any]:
    """What the figures depend on besides the hardware."""
    busy = _busy_share(source)
    try:
        load: Optional[float] = round(source.load_average(), 2)
    except (OSError, SourceError, TypeError, ValueError):
        load = None
    conditions = {
        "lanes": lanes,
        "load_average": load,
        "busy_share": busy,
        "idle": None if busy is None else busy < _BUSY_SHARE,
        "python": sys.version.split()[0],
    }
    names = ("cpu_model", "cpu_quota", "virtual_machine", "container", "on_mains", "temperature_celsius")
    return {**conditions, **{name: values.get(name) for name in names}}


def _busy_share(source: Source) -> Optional[float]:
    """The busy share of all CPUs, measured for a quarter of a second."""
    try:
        before = source.cpu_times()
        time.sleep(0.25)
        after = source.cpu_times()
    except (OSError, SourceError):
        return None
    spent = {name: after[name] - before.get(name, 0.0) for name in after if not name.startswith("guest")}
    total = sum(spent.values())
    return round(1 - (spent.get("idle", 0.0) + spent.get("iowait", 0.0)) / total, 3) if total > 0 else None


def _cpu(lanes: int, deadline: Deadline) -> dict[str, Any]:
    if find_spec("blake3") is None:
        return _not_measured(NEEDS_BLAKE3)
    return _rounds("cpu", "duxnet", lanes, _LANE_SECONDS, "steps/s", 1.0, deadline)


def _memory(lanes: int, size: int, deadline: Deadline) -> dict[str, Any]:
    if size < 1 << 20:
        return _not_measured("too little memory is free")
    return _rounds("memory", str(size), lanes, _LANE_SECONDS, "GB/s", 1e-9, deadline)


def _disk(work_dir: str, values: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    reason = ""
    available = values.get("storage_available_gb")
    if available is None:
        reason = "the work directory's storage is unknown"
    elif available * 1e9 < _ROOM_BYTES:
        reason = "less than 1 GB is free"
    folder = work_dir
    while not reason and not os.path.isdir(folder) and folder != "/":  # noqa: PTH112 - the probe has reported errors already
        folder = str(Path(folder).parent)
    if not reason and not os.access(folder, os.W_OK | os.X_OK):
        reason = f"{folder} is not writable"
    if reason:
        return {"disk_write": _not_measured(reason), "disk_read": _not_measured(reason)}
    with tempfile.TemporaryDirectory(prefix=".duxnet-bench-", dir=folder) as own:
        path = f"{own}/data"
        write = _rounds("disk_write", path, 1, _DISK_SECONDS, "MB/s", 1e-6, deadline, rounds=2)
        if "value" not in write:
            return {"disk_write": write, "disk_read": _not_measured("nothing was written")}
        return {"disk_write": write, "disk_read": _rounds("disk_read", path, 1, 0.7, "reads/s", 1.0, deadline)}


def _gpu(values: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
    if not values.get("gpu_enabled"):
        return _not_measured("no usable GPU")
    if find_spec("torch") is None:
        return _not_measured("needs torch, which is not installed")
    return _rounds("gpu", "", 1, _GPU_SECONDS, "TFLOP/s", 1e-12, deadline)


def _not_measured(reason: str) -> dict[str, Any]:
    return {"not_measured": reason}


def _rounds(
    kind: str,
    argument: str,
    lanes: int,
    seconds: float,
    unit: str,
    scale: float,
    deadline: Deadline,
    rounds: int = _ROUNDS,
) -> dict[str, Any]:
    """Noise only slows a round down, so the best round is the figure; the others give its spread."""
    rates: list[float] = []
    result: dict[str, Any] = {}
    reason = "the time limit for all measurements was reached"
    for _ in range(rounds):
        if deadline.left() < seconds + 0.5:
            break
        done = _round(kind, argument, lanes, seconds, deadline)
        failures = [lane.failed for lane in done if lane.failed is not None]
        if failures:
            reason = failures[0]
            break
        rates.append(sum(lane.rate for lane in done) * scale)
        result = done[0].result
    if not rates:
        return _not_measured(reason)
    found = {
        "value": _rounded(max(rates)),
        "unit": unit,
        "lanes": lanes,
        "rounds": [_rounded(rate) for rate in rates],
        "spread": round(1 - min(rates) / max(rates), 3),
    }
    return {**found, **{name: result[name] for name in ("median_us", "p99_us", "direct", "device") if name in result}}


def _rounded(rate: float) -> float:
    return float(f"{rate:.4g}")


def _round(kind: str, argument: str, lanes: int, seconds: float, deadline: Deadline) -> list[Lane]:
    """All lanes start at the same moment; a worker that does not finish in time is killed."""
    workers: list[subprocess.Popen[bytes]] = []
    try:
        workers.extend(_started(kind, argument, seconds) for _ in range(lanes))
        for worker in workers:
            line = _line(worker, min(_READY_SECONDS, deadline.left()))
            if line != b"ready\n":
                return [_lane(line, "the worker was not ready in time")]
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"go\n")
            worker.stdin.flush()
        late = "no answer in time"
        return [_lane(_line(worker, min(seconds + 4.0, deadline.left())), late) for worker in workers]
    except OSError as error:
        return [Lane({"failed": f"cannot start a process: {error.strerror}"})]
    finally:
        for worker in workers:
            worker.kill()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            with suppress(subprocess.TimeoutExpired):  # a disk or driver holds it: it ends when that answers
                worker.wait(0.5)


def _started(kind: str, argument: str, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own script, under our own interpreter
        [sys.executable, "-I", str(_WORKER), kind, argument, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith(("DUXNET_", "PYTHON"))},
        start_new_session=True,
    )


def _line(worker: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line of a worker; empty if there is none in time."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        return worker.stdout.readline() if selector.select(seconds) else b""


def _lane(line: bytes, otherwise: str) -> Lane:
    import json

    try:
        result = json.loads(line)
    except ValueError:
        return Lane({"failed": otherwise})
    whole = isinstance(result, dict) and ("failed" in result or float(result.get("seconds", 0)) > 0)
    return Lane(result) if whole else Lane({"failed": otherwise})
