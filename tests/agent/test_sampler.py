"""Samples from a source that a test fills: a container's limits, guest time, gauges that fail alone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.probe.deadline import Deadlines
from agent.probe.live_source import LiveSource
from agent.probe.source import Source, SourceError
from agent.sampler import Sampler
from tests.support.processes import until

GIB = 2**30
DISK = {"total": 100, "used": 50, "free": 30, "inodes": 10, "inodes_available": 10}


class Machine(Source):
    """Answers as told; `files` maps paths to their text."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.read: dict[str, int] = {}
        self.answers: dict[str, Any] = {
            "load_average": 0.5,
            "virtual_memory": {"total": 8 * GIB, "available": 6 * GIB},
            "disk_usage": DISK,
            "nearest_existing": "/work",
            "cpu_times": {"user": 100.0, "system": 50.0, "idle": 800.0, "iowait": 50.0, "guest": 0.0},
        }

    def read_text(self, path: str) -> Any:
        self.read[path] = self.read.get(path, 0) + 1
        return self.files.get(path)

    def list_dir(self, path: str) -> list[str]:
        return sorted({name[len(path) + 1 :].split("/")[0] for name in self.files if name.startswith(path + "/")})

    def read_link(self, path: str) -> Any:
        return None

    def ask(self, question: str, argument: str = "") -> Any:
        answer = self.answers[question]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def sampler(machine: Machine) -> Sampler:
    return Sampler(machine, "/work")


def test_memory_is_what_could_not_be_had_and_disk_is_as_df_counts(sampler: Sampler) -> None:
    sample = sampler.take()
    assert sample.load_average == 0.5
    assert sample.memory_usage == 25.0
    assert sample.disk_usage == 62.5  # 50 of 50 + 30; the 20 that are kept for root do not count
    assert sample.failures == ()


def test_in_a_container_memory_is_judged_by_its_limit(machine: Machine, sampler: Sampler) -> None:
    machine.files = {
        "/proc/self/cgroup": "0::/box\n",
        "/proc/self/mountinfo": "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "/sys/fs/cgroup/box/memory.max": f"{GIB}\n",
        "/sys/fs/cgroup/box/memory.current": f"{GIB * 3 // 4}\n",
        "/sys/fs/cgroup/box/memory.stat": f"inactive_file {GIB // 4}\n",
    }
    assert sampler.take().memory_usage == 50.0
    machine.files["/sys/fs/cgroup/box/memory.max"] = "max\n"
    assert sampler.take().memory_usage == 25.0


def test_mounts_are_read_again_only_when_the_process_was_moved_to_another_group(
    machine: Machine, sampler: Sampler
) -> None:
    machine.files = {
        "/proc/self/cgroup": "0::/box\n",
        "/proc/self/mountinfo": "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "/sys/fs/cgroup/box/memory.max": f"{GIB}\n",
        "/sys/fs/cgroup/box/memory.current": f"{GIB // 2}\n",
        "/sys/fs/cgroup/other/memory.max": f"{GIB}\n",
        "/sys/fs/cgroup/other/memory.current": f"{GIB * 3 // 4}\n",
    }
    assert [sampler.take().memory_usage for _ in range(5)] == [50.0] * 5
    assert machine.read["/proc/self/mountinfo"] == 1
    machine.files["/proc/self/cgroup"] = "0::/other\n"
    assert sampler.take().memory_usage == 75.0


def test_cpu_use_is_the_difference_between_two_samples(machine: Machine, sampler: Sampler) -> None:
    assert sampler.take().cpu_usage is None
    machine.answers["cpu_times"] = {"user": 130.0, "system": 50.0, "idle": 860.0, "iowait": 60.0, "guest": 20.0}
    # the 20 of guests are in user time already: busy 30, of 30 + 60 + 10
    assert sampler.take().cpu_usage == pytest.approx(30.0)


def test_cpu_times_that_stand_still_or_go_back_give_no_figure(machine: Machine, sampler: Sampler) -> None:
    sampler.take()
    assert sampler.take().cpu_usage is None
    machine.answers["cpu_times"] = {"user": 1.0, "idle": 2.0}
    assert sampler.take().cpu_usage is None


@pytest.mark.parametrize(
    ("question", "gauge", "field"),
    [
        ("load_average", "load", "load_average"),
        ("virtual_memory", "memory", "memory_usage"),
        ("disk_usage", "disk", "disk_usage"),
        ("cpu_times", "cpu", "cpu_usage"),
    ],
)
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), SourceError("no answer"), ValueError("x")])
def test_a_gauge_fails_alone_and_says_so(
    question: str, gauge: str, field: str, error: Exception, machine: Machine, sampler: Sampler
) -> None:
    machine.answers[question] = error
    sample = sampler.take()
    assert getattr(sample, field) is None
    (failure,) = sample.failures
    assert failure.startswith(f"{gauge}: ")
    others = {"load_average", "memory_usage", "disk_usage"} - {field}
    assert all(getattr(sample, name) is not None for name in others)


def test_a_disk_that_does_not_answer_costs_one_thread_and_the_other_gauges_go_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.sampler.DISK_DEADLINE_SECONDS", 0.05)
    release = threading.Event()

    def hang() -> dict[str, int]:
        release.wait(10)
        return DISK

    machine.answers["disk_usage"] = hang
    deadlines = Deadlines()
    sampler = Sampler(machine, "/work", deadlines)
    for _ in range(5):
        sample = sampler.take()
        assert sample.disk_usage is None
        assert sample.load_average == 0.5
    assert len(deadlines.stuck) == 1
    machine.answers["disk_usage"] = DISK
    release.set()
    until(lambda: sampler.take().disk_usage == 62.5, "picking up the late answer")


def test_this_machine_gives_a_whole_sample(tmp_path: Any) -> None:
    sampler = Sampler(LiveSource(), str(tmp_path / "not" / "yet" / "there"))
    sample = sampler.take()
    assert sample.failures == ()
    assert sample.load_average is not None
    assert sample.memory_usage is not None
    assert 0 < sample.memory_usage <= 100
    assert sample.disk_usage is not None
    assert 0 <= sample.disk_usage <= 100
