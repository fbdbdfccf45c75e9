"""The table that a person reads: the sentence first, groups, nothing that says nothing, and no endless lists."""

from __future__ import annotations

import json

import pytest

from agent.probe.options import ProbeOptions
from agent.probe.recording import RecordingSource
from agent.probe.render import table
from agent.probe.runner import ProbeRunner
from tests.probe.test_recordings import MACHINES, replayed
from tests.probe.test_rules import UNAME

LARGE = {
    "512-cpus", "nvidia-8-gpus", "nvidia-driver-mismatch", "host-of-containers-and-guests",
    "laptop-performance-efficiency", "zfs-storage-host",
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_an_ordinary_machine_is_told_in_25_lines_that_begin_with_its_offer(machine: str) -> None:
    text = table(replayed(machine))
    lines = text.rstrip("\n").split("\n")
    assert lines[0].startswith("This machine offers ")
    assert "GB is 10⁹ bytes" in lines[0]
    assert len(lines) <= (34 if machine in LARGE else 25), text
    empty = (" None", " no limit", " unknown", " huge pages  0.0 GB")
    assert "error" in text or "*" in text or not [line for line in lines if line.endswith(empty)]


def rows(text: str) -> dict[str, str]:
    return {line[9:].split("  ")[0].strip(): line for line in text.split("\n") if line}


def test_everything_is_shown_when_it_is_wanted() -> None:
    report = replayed("arm-board")
    short, long = table(report), table(report, everything=True)
    assert len(long.split("\n")) > len(short.split("\n")) + 8
    assert {"boot id", "huge pages", "CPU sockets"} <= rows(long).keys()
    assert not {"boot id", "huge pages", "CPU sockets"} & rows(short).keys()
    assert long.count("\n") >= len(report.readings)


def test_groups_stand_in_front_once_each() -> None:
    first = [line.split()[0] for line in table(replayed("nvidia-8-gpus")).split("\n")[2:] if line[:1].isalpha()]
    assert first == ["CPU", "Memory", "Storage", "GPU", "Network", "Host"]


def test_a_gpu_is_one_line_with_what_matters() -> None:
    lines = [line for line in table(replayed("nvidia-8-gpus")).split("\n") if "RTX A6000" in line]
    assert len(lines) == 8
    assert all(line.endswith("NVIDIA RTX A6000, 51.527 GB, usable") for line in lines)
    (broken,) = (line for line in table(replayed("nvidia-driver-mismatch")).split("\n") if line.startswith("GPU"))
    assert "not usable: version-mismatch:" in broken


def test_a_row_with_a_note_is_marked_and_the_last_line_says_where_to_look() -> None:
    text = table(replayed("power9-nvlink-gpu-memory"))
    assert "memory * " in text
    assert text.endswith("* details: duxnet probe --explain\n")
    assert "*" not in table(replayed("container-cgroup-v1")).split("\n", 1)[1].replace("0.5", "")


def test_hundreds_of_interfaces_are_counted_and_those_with_addresses_told() -> None:
    told = [{"name": f"cali{n}", "up": True, "mtu": 1500, "addresses": ["fe80::1"]} for n in range(500)]
    told += [{"name": "eth0", "up": True, "mtu": 1500, "addresses": ["10.0.0.2", "fe80::2"]}]
    text = UNAME + f"ask interfaces = {json.dumps(told)}\n"
    report = ProbeRunner(RecordingSource(text), ProbeOptions("/")).run(["network"])
    lines = table(report).split("\n")
    assert any(line.endswith("eth0, 10.0.0.2") for line in lines)
    assert any(line.endswith("… and 500 more") for line in lines)
    assert len(lines) < 8
    assert len(table(report, everything=True).split("\n")) > 500


def test_what_ends_in_a_terminal_cannot_write_to_it() -> None:
    text = 'ask uname = ["Linux", "\\u001b[2J", "6", "v", "x"]\nfile /etc/os-release = PRETTY_NAME="a\x1b[31m"\n'
    report = ProbeRunner(RecordingSource(text), ProbeOptions("/")).run(["host"])
    assert "\x1b" not in table(report, everything=True)
