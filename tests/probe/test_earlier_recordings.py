"""Recordings of version 1, made before psutil was the first source: they are told as the same machine is today."""

from __future__ import annotations

from typing import Any

import pytest

from agent.probe.options import ProbeOptions
from agent.probe.recording import RecordingSource
from agent.probe.runner import ProbeRunner

SHARED = """# duxnet recording
option work_dir = /
ask uname = ["Linux", "masked-host", "6.1.0", "v", "x86_64"]
ask affinity = [0, 1]
file /sys/devices/system/cpu/online = 0-1
ask nearest_existing / = "/"
file /proc/meminfo
|MemTotal:       16315488 kB
|MemAvailable:   10000000 kB
|SwapTotal:       1000000 kB
file /proc/self/mountinfo
|1 0 8:1 / / rw - ext4 /dev/sda1 rw
|2 1 0:50 / /mnt/gone rw - nfs4 nas:/a rw
"""
VERSION_1 = """
ask statvfs / = [1000000000, 600000000, 500000000, 70, 60]
fail statvfs /mnt/gone = Stale file handle
file /proc/stat
|cpu  4000 0 1000 4000 0 0 0 1000 500 0
|cpu0 4000 0 1000 4000 0 0 0 1000 500 0
ask interfaces = [{"name": "eth0", "up": true, "addresses": ["10.0.0.2"]}, {"name": "lo", "up": true, "addresses": []}]
file /sys/class/net/eth0/mtu = 9000
"""
VERSION_2 = """
ask disk_usage / = {"total": 1000000000, "used": 400000000, "free": 500000000, "inodes": 70, "inodes_available": 60}
fail disk_usage /mnt/gone = Stale file handle
ask cpu_times = {"user": 40.0, "system": 10.0, "idle": 40.0, "steal": 10.0, "guest": 5.0}
ask swap_memory = {"total": 1024000000, "used": 0}
ask interfaces = [{"name": "eth0", "up": true, "mtu": 9000, "addresses": ["10.0.0.2"]},
 {"name": "lo", "up": true, "mtu": null, "addresses": []}]
""".replace(",\n", ",")


def told(text: str) -> dict[str, Any]:
    return ProbeRunner(RecordingSource(text), ProbeOptions("/")).run().to_plain()


def test_a_recording_of_version_1_is_told_as_one_of_today() -> None:
    earlier, today = told(SHARED + VERSION_1), told(SHARED + VERSION_2)
    assert earlier == today
    values = {reading["name"]: reading["value"] for reading in earlier["readings"]}
    assert (values["storage_gb"], values["storage_inodes_available"], values["swap_gb"]) == (0.9, 60, 1.024)
    assert values["cpu_steal_percent"] == 10.0
    assert [interface["mtu"] for interface in values["interfaces"]] == [9000, None]
    assert [error["message"] for error in earlier["errors"]] == ["/mnt/gone (nfs4 from nas:/a): Stale file handle"]


def test_a_mount_that_never_answered_still_does_not() -> None:
    source = RecordingSource("hang statvfs /mnt/dead\n")
    assert source._hanging == {"disk_usage /mnt/dead"}


def test_the_answer_of_a_call_is_never_replaced_by_what_a_file_says() -> None:
    text = 'file /proc/meminfo = SwapTotal: 5 kB\nask swap_memory = {"total": 1}\n'
    text += 'file /proc/stat = cpu 1 1\nask cpu_times = {"user": 7.0}\n'
    source = RecordingSource(text)
    assert source.swap_memory() == {"total": 1}
    assert source.cpu_times() == {"user": 7.0}


@pytest.mark.parametrize("stat", ["cpu", "cpu x 1", "intr 1 2", "", "cpu 1 " + "9" * 30])
def test_a_damaged_count_of_time_is_no_answer(stat: str) -> None:
    source = RecordingSource(f"file /proc/stat = {stat}\n")
    assert source.ask("cpu_times") in (None, {})


@pytest.mark.parametrize("answer", ["[1, 2]", '"x"', "null", "7", '[{"a": 1}, 2, 3, 4, 5]'])
def test_a_damaged_answer_of_version_1_stays_none(answer: str) -> None:
    report = told(SHARED + f"ask statvfs / = {answer}\nask interfaces = {answer}\n")
    assert "storage_gb" not in {reading["name"] for reading in report["readings"]}
