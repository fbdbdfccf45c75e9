"""The same figures as other programs give, on this machine; where they differ, docs/probe.md says why."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.report import ProbeReport
from agent.probe.runner import ProbeRunner
from tests.support.requirements import need_program

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


@pytest.fixture(scope="module")
def report() -> ProbeReport:
    return ProbeRunner(LiveSource(), ProbeOptions("/")).run(["cpu", "memory", "storage"])


def value(report: ProbeReport, name: str) -> float:
    return float(next(reading.value for reading in report.readings if reading.name == name) or 0)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


def test_nproc_counts_the_same_cpus_where_no_quota_binds(report: ProbeReport) -> None:
    nproc = int(said(need_program("nproc", "coreutils")))
    quota = report.capabilities.cpu_quota
    assert value(report, "cpu_cores") == (nproc if quota is None else max(1, int(quota)))


def test_lscpu_sees_the_same_cpus_and_sockets(report: ProbeReport) -> None:
    fields = json.loads(said(need_program("lscpu", "util-linux"), "--json"))["lscpu"]
    told = {item["field"]: item["data"] for item in _flat(fields)}
    assert value(report, "host_cpus") + value(report, "cpus_offline") == int(told["CPU(s):"])
    assert report.capabilities.architecture == told["Architecture:"]
    if "Socket(s):" in told and value(report, "cpu_sockets"):
        assert value(report, "cpu_sockets") == int(told["Socket(s):"])


def _flat(fields: list[dict[str, object]]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for item in fields:
        found.append({"field": str(item["field"]), "data": str(item["data"])})
        children = item.get("children")
        found.extend(_flat(children) if isinstance(children, list) else [])
    return found


def test_free_sees_the_same_memory(report: ProbeReport) -> None:
    total = int(re.findall(r"^Mem:\s+(\d+)", said(need_program("free", "procps"), "-b"), re.MULTILINE)[0])
    memory = next(reading for reading in report.readings if reading.name == "memory_gb")
    whole = memory.host if memory.host is not None else memory.value
    assert whole == pytest.approx(total / 1e9, abs=0.001)


def test_df_sees_the_same_disk(report: ProbeReport) -> None:
    line = said(need_program("df", "coreutils"), "-B1", "--output=used,avail", "/").splitlines()[1]
    used, available = map(int, line.split())
    assert value(report, "storage_gb") == pytest.approx((used + available) / 1e9, rel=0.01)


def test_lstopo_counts_the_same_cores_and_cpus(report: ProbeReport) -> None:
    console = said(need_program("lstopo-no-graphics", "hwloc-nox"), "--of", "console")
    cpus, cores = len(re.findall(r"\bPU L#", console)), len(re.findall(r"\bCore L#", console))
    usable = len(os.sched_getaffinity(0))
    assert cpus in (usable, value(report, "host_cpus"))
    if value(report, "physical_cores"):
        assert cores in (value(report, "physical_cores"), value(report, "host_cpus"))


def test_slurmd_counts_the_same_cpus(report: ProbeReport) -> None:
    told = dict(re.findall(r"(\w+)=(\S+)", said(need_program("slurmd", "slurmd"), "-C")))
    assert int(told["CPUs"]) == value(report, "host_cpus")
    memory = next(reading for reading in report.readings if reading.name == "memory_gb")
    whole = memory.host if memory.host is not None else memory.value
    assert int(told["RealMemory"]) == pytest.approx(whole * 1e9 / 2**20, abs=1.5)  # MiB, rounded down
