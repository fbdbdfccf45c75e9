"""Where /proc, /sys or calls are kept from this process: «not known» with the reason, never «none» and never 0."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from typing import Any, Optional

import pytest

from agent.probe.cgroups import Cgroups
from agent.probe.deadline import Deadlines
from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.recording import RecordingSource
from agent.probe.report import ProbeReport
from agent.probe.runner import ProbeRunner
from agent.probe.source import Source
from tests.probe.test_recordings import RECORDINGS


class Closed(Source):
    """This machine without some of its files and calls."""

    def __init__(self, *folders: str, calls: tuple[str, ...] = ()) -> None:
        self._source = LiveSource()
        self._folders = folders
        self._calls = calls

    def read_text(self, path: str) -> Optional[str]:
        return None if path.startswith(self._folders) else self._source.read_text(path)

    def read_link(self, path: str) -> Optional[str]:
        return None if path.startswith(self._folders) else self._source.read_link(path)

    def list_dir(self, path: str) -> list[str]:
        return [] if path.startswith(self._folders) else self._source.list_dir(path)

    def ask(self, question: str, argument: str = "") -> Any:
        if question in self._calls:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return self._source.ask(question, argument)


def run(source: Source) -> ProbeReport:
    return ProbeRunner(source, ProbeOptions("/")).run()


def errors(report: ProbeReport) -> dict[Optional[str], str]:
    return {failure.reading: failure.message for failure in report.errors}


def values(report: ProbeReport) -> dict[str, Any]:
    return {reading.name: reading.value for reading in report.readings}


def test_without_sysfs_gpus_and_the_machine_are_not_known() -> None:
    report = run(Closed("/sys"))
    assert errors(report)["gpus"] == "/sys is not visible here: GPUs on a bus cannot be detected"
    told = values(report)
    assert (told["gpus"], told["gpu_enabled"]) == (None, None)
    plain = report.capabilities_to_plain()
    assert (plain["gpus"], plain["gpu_enabled"]) == (None, None)
    assert plain["cpu_cores"] >= 1
    assert report.capabilities.gpus == ()


def test_a_bus_without_gpus_is_none_and_no_error() -> None:
    report = run(RecordingSource('ask uname = ["Linux", "h", "6", "v", "s390x"]\ndir /sys/bus = ["ccw"]\n'))
    assert values(report)["gpus"] == []
    assert "gpus" not in errors(report)


def test_without_proc_limits_mounts_and_containers_are_not_known() -> None:
    proc = ("cpu_count", "cpu_times", "virtual_memory", "swap_memory", "interfaces")  # what psutil reads there
    report = run(Closed("/proc", "/sys/fs/cgroup", calls=proc))
    told = errors(report)
    assert {"cpu_quota", "memory_gb", "file_systems", "interfaces", "container"} <= told.keys()
    assert all("/proc is not visible here" in told[name] for name in ("cpu_quota", "memory_gb", "file_systems"))
    assert all("Errno" not in message and "Error" not in message for message in told.values()), told
    found = values(report)
    assert found["cpu_cores"] >= 1
    assert found["memory_gb"] == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, abs=0.01)
    assert (found["container"], found["memory_hugepages_gb"], found["interfaces"]) == (None, None, None)


def test_a_machine_that_is_no_linux_has_neither_and_says_nothing() -> None:
    report = run(RecordingSource('ask uname = ["Darwin", "mac", "23.6.0", "v", "arm64"]\nask cpu_count = 8\n'))
    assert not {"cpu_quota", "gpus", "container", "virtual_machine"} & errors(report).keys()


@pytest.mark.parametrize("call", ["affinity", "clock", "uname", "route", "cpu_times", "swap_memory", "access"])
def test_a_call_that_a_filter_refuses_costs_no_other_reading(call: str) -> None:
    report = run(Closed("/nothing", calls=(call,)))
    assert report.capabilities.cpu_cores >= 1
    assert values(report)["hostname"]
    assert report.capabilities.memory_gb > 0
    assert values(report)["addresses"] is not None
    assert not any("Errno" in failure.message for failure in report.errors)


def test_refused_interfaces_are_told_and_the_route_still_gives_an_address() -> None:
    report = run(Closed("/nothing", calls=("interfaces",)))
    assert "interfaces cannot be listed" in errors(report)["interfaces"]
    assert values(report)["interfaces"] is None


def test_where_no_thread_can_be_started_the_reading_thread_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert Deadlines().call("a", 1, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        Deadlines().call("a", 1, lambda: 1 // 0)
    report = run(LiveSource())
    assert report.capabilities.cpu_cores >= 1
    assert not any("thread" in failure.message for failure in report.errors)


def test_groups_that_are_not_mounted_here_leave_limits_unknown() -> None:
    groups = Cgroups(RecordingSource("file /proc/self/cgroup = 0::/docker/x\nfile /proc/self/mountinfo = x\n"))
    assert groups.unseen == "control groups are not mounted here: limits cannot be read"
    assert not Cgroups(RecordingSource("file /proc/self/cgroup = 0::/\n")).unseen


def probed(*arguments: str) -> dict[str, Any]:
    code = "import sys; from duxnet.cli import main; sys.exit(main(['probe', '--format', 'json', *sys.argv[1:]]))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=30)
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def test_only_gives_null_for_what_was_not_measured() -> None:
    told = probed("--only", "cpu", "--root", str(RECORDINGS / "arm-board"))["capabilities"]
    assert told["cpu_cores"] > 0
    assert {told[name] for name in ("memory_gb", "storage_gb", "gpu_enabled", "gpus", "kernel")} == {None}


def test_a_switch_of_the_operator_on_gpus_that_are_not_known_stands() -> None:
    options = ProbeOptions("/", overrides={"gpu_enabled": True})
    report = ProbeRunner(Closed("/sys"), options).run()
    assert report.capabilities_to_plain()["gpu_enabled"] is True
