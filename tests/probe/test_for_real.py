"""Limits and containers made here: affinity, namespaces, another root, how full the machine is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.probes.host import HostProbe
from agent.probe.recording import RecordingSource
from agent.sampler import Sampler

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


RUN = "import sys; from duxnet.cli import main; sys.exit(main(['probe', '--format', 'json', *sys.argv[1:]]))"


def readings(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, timeout=30)
    return {reading["name"]: reading for reading in json.loads(done.stdout)["readings"]}


def test_affinity_to_one_cpu_offers_one_cpu() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}])\n{RUN}"
    cores = readings(sys.executable, "-c", code, "--only", "cpu")["cpu_cores"]
    assert cores["value"] == 1
    if (os.cpu_count() or 1) > 1:
        assert cores["limited_by"] == "CPU affinity of this process"
        assert cores["host"] == os.cpu_count()


def test_a_process_in_namespaces_of_its_own_is_in_a_container() -> None:
    unshare = shutil.which("unshare")
    works = unshare and subprocess.run([unshare, "-p", "-f", "true"], capture_output=True).returncode == 0
    if not unshare or not works:
        pytest.skip("needs root to make a namespace")
    outside = readings(sys.executable, "-c", RUN, "--only", "host")["container"]["value"]
    inside = readings(unshare, "-p", "-f", "--mount-proc", sys.executable, "-c", RUN, "--only", "host")
    assert inside["container"]["value"]
    assert outside is None or outside == inside["container"]["value"]


def test_a_source_can_have_another_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("PRETTY_NAME=Elsewhere\n")
    (tmp_path / "etc/link").symlink_to("os-release")
    source = LiveSource(str(tmp_path))
    assert source.list_dir("/etc") == ["link", "os-release"]
    assert source.read_link("/etc/link") == "os-release"
    told = {reading.name: reading.value for reading in HostProbe().read(source, ProbeOptions("/"))[0]}
    assert told["os_version"] == "Elsewhere"


def test_memory_and_disk_in_use_are_near_what_psutil_says_on_an_ordinary_machine() -> None:
    sample = Sampler(LiveSource(), "/").take()
    assert sample.memory_usage is not None
    assert sample.memory_usage >= psutil.virtual_memory().percent - 3, "a limit can only make it fuller"
    assert sample.disk_usage == pytest.approx(psutil.disk_usage("/").percent, abs=2)


def test_use_is_counted_of_the_limit_and_cache_that_gives_way_is_not_use() -> None:
    text = (Path(__file__).parent / "recordings/container-cgroup-v1/machine.recording").read_text()
    sampler = Sampler(RecordingSource(text), "/work")
    # (734003200 - 209715200) / 2147483648 is 24.4 %; the host is at 1 - 48234496 / 65843048, 26.7 %, and that is fuller
    assert sampler.memory_percent() == 26.74
    assert sampler.disk_percent() == 62.31  # 62138540032 of 99719503872


def test_zfs_cache_is_not_use() -> None:
    text = (Path(__file__).parent / "recordings/zfs-storage-host/machine.recording").read_text()
    assert Sampler(RecordingSource(text), "/tank/duxnet").memory_percent() == 30.52  # 1 - 46752513664 / 67287658496


@pytest.mark.parametrize(
    ("machine", "percent"),
    [
        ("kvm-host-huge-page-pools", 28.47),  # 1 - 18000000 / 25165824, and not of 131072000
        ("power9-nvlink-gpu-memory", 3.33),  # 1 - 255000000 / 263791104
    ],
)
def test_memory_that_work_cannot_get_counts_neither_as_memory_nor_as_used(machine: str, percent: float) -> None:
    text = (Path(__file__).parent / "recordings" / machine / "machine.recording").read_text()
    assert Sampler(RecordingSource(text), "/").memory_percent() == percent
