"""What psutil and the kernel answer here, held against the kernel's own words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from agent.probe import system_calls as calls
from agent.probe.clock import clock_state
from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.probes.cpu import CpuProbe
from agent.probe.source import SourceError


def test_the_clock_is_read_without_being_set() -> None:
    state = clock_state()
    assert set(state) == {"synchronised", "offset_seconds", "max_error_seconds"}
    assert abs(state["offset_seconds"]) < 1  # adjtimex slews at most half a second; more would be the wrong unit


def test_every_interface_of_the_kernel_is_there_with_its_mtu_and_carrier() -> None:
    told = {item["name"]: item for item in LiveSource().interfaces()}
    for folder in Path("/sys/class/net").iterdir():
        if not (folder / "mtu").exists():  # bonding_masters
            continue
        running = int((folder / "flags").read_text(), 16) & 0x1 and (folder / "operstate").read_text().strip() != "down"
        interface = told[folder.name]
        assert interface["mtu"] == int((folder / "mtu").read_text())
        assert interface["up"] is bool(running)
    assert "127.0.0.1" in told["lo"]["addresses"]


def test_a_labelled_address_is_one_of_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(text: str, family: int = socket.AF_INET) -> Any:
        return SimpleNamespace(family=family, address=text)

    found = {
        "eth0": [address("10.0.0.2"), address("fe80::1%eth0", socket.AF_INET6), address("02:00:00:00:00:01", 17)],
        "eth0:1": [address("10.0.0.3")],
        "gone0": [address("10.0.0.9")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {"eth0": SimpleNamespace(isup=True, mtu=1500)})
    assert LiveSource().interfaces() == [
        {"name": "eth0", "up": True, "mtu": 1500, "addresses": ["10.0.0.2", "fe80::1", "10.0.0.3"]}
    ]


def test_the_disk_is_told_as_statvfs_counts_it() -> None:
    size, sizes = LiveSource().disk_usage("/"), os.statvfs("/")
    assert size.total_bytes == sizes.f_blocks * sizes.f_frsize
    assert size.reserved_bytes == (sizes.f_bfree - sizes.f_bavail) * sizes.f_frsize
    assert size.inodes == sizes.f_files


def test_affinity_is_the_schedulers_also_where_psutil_does_not_find_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LiveSource().affinity() == frozenset(os.sched_getaffinity(0))

    def without_proc(_process: object) -> list[int]:
        raise psutil.NoSuchProcess(os.getpid())

    monkeypatch.setattr(psutil.Process, "cpu_affinity", without_proc)
    assert LiveSource().affinity() == frozenset(os.sched_getaffinity(0))
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    assert LiveSource().affinity() is None, "macOS has no affinity"


@pytest.mark.parametrize("error", [TypeError, ValueError, IndexError, RuntimeError, psutil.AccessDenied])
def test_a_file_that_psutil_cannot_read_costs_its_own_reading_only(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise error("line 'btime' is not there")

    monkeypatch.setattr(psutil, "cpu_times", fail)
    with pytest.raises(SourceError, match="cpu_times"):
        LiveSource().cpu_times()
    readings = {reading.name: reading.value for reading in CpuProbe().read(LiveSource(), ProbeOptions("/"))[0]}
    assert readings["cpu_cores"] >= 1
    assert readings["cpu_steal_percent"] is None


def test_psutils_warning_of_unknown_swapping_does_not_reach_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def swap_memory() -> Any:
        warnings.warn("'sin' and 'sout' swap memory stats couldn't be determined", RuntimeWarning, stacklevel=2)
        return SimpleNamespace(_asdict=lambda: {"total": 4096})

    monkeypatch.setattr(psutil, "swap_memory", swap_memory)
    assert LiveSource().swap_memory() == {"total": 4096}


def test_a_replay_does_not_load_psutil() -> None:
    recording = Path(__file__).parent / "recordings" / "arm-board"
    code = (
        f"import sys; from duxnet.cli import main; main(['probe', '--root', {str(recording)!r}])\n"
        "sys.exit('psutil' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode == 0


def test_an_unknown_question_is_an_error() -> None:
    with pytest.raises(SourceError, match="weather is not a query"):
        calls.answer("weather", "")
