"""Garbage in every parser, and in whole recordings: no crash, and nothing published that the registry would refuse."""

from __future__ import annotations

import json
import random
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.probe.options import ProbeOptions
from agent.probe.parsers import addresses, cgroup, cpu, meminfo, mounts, release
from agent.probe.probes import all_probes
from agent.probe.probes.storage import StorageProbe
from agent.probe.recording import RecordingSource
from agent.probe.runner import ProbeRunner
from registry_core.errors import ValidationError
from tests.probe.test_recordings import MACHINES, RECORDINGS

PARSERS: list[Callable[[str], Any]] = [
    addresses.ipv6_states,
    addresses.scope_of,
    cgroup.cgroup_mounts,
    cgroup.cgroup_paths,
    cgroup.cpu_max,
    lambda text: cgroup.cfs_quota(text, "100000"),
    lambda text: cgroup.cfs_quota("100000", text),
    cgroup.reclaimable_bytes,
    cgroup.hierarchical_limit,
    cgroup.memory_limit,
    cpu.cpu_list,
    cpu.cpu_model,
    meminfo.arc_stats,
    meminfo.meminfo,
    meminfo.swap_devices,
    lambda text: list(mounts.mounts(text)),
    release.os_release,
    release.pretty_name,
]
# Text that is nearly right does more harm than noise: the words, numbers and signs of the real formats, mixed
NEARLY = st.lists(
    st.sampled_from(
        ["max", "-1", "0", "100000", "9" * 30, "0-3", ",", ":", " ", "\n", "\t", "kB", "MemTotal:", "cpu ", " - ",
         "cgroup2", "rw,cpu", "/", "/..", "\\040", "\x00", "é", "٣", "²", "0x41", "CPU implementer :", "CPU part :",
         "model name :", "hierarchical_memory_limit ", "inactive_file ", "NAME=", '"', "1e9", "nan", "size 4 ", "."]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.text(max_size=200), NEARLY))
def test_no_parser_raises_whatever_it_is_fed(text: str) -> None:
    for parse in PARSERS:
        parse(text)


DAMAGE = ["", "max", "-1", "0", "18446744073709551615", "9" * 40, "nan", "0-9999999", "\x1b[31m", "null", "[]", "{}",
          '"x"', "[1]", "1e999", "\u202e", "²"]  # fmt: skip


def damaged(text: str, seed: int) -> str:
    """One line in six is dropped, cut, doubled, or has its value replaced by something that is none."""
    luck = random.Random(seed)
    lines = []
    for line in text.splitlines():
        way = luck.randrange(24)
        before, equals, _ = line.partition(" = ")
        if way == 0:
            continue
        if way == 1:
            line = line[: luck.randrange(len(line) + 1)]  # noqa: PLW2901 - the damage
        elif way in (2, 3) and equals and not line.startswith(("dir", "option")):
            line = f"{before} = {luck.choice(DAMAGE)}"  # noqa: PLW2901 - the damage
        lines.append(line)
    return "\n".join(lines)


def read(text: str) -> RecordingSource:
    """What of a damaged recording is still one."""
    lines = text.splitlines()
    while True:
        try:
            return RecordingSource("\n".join(lines))
        except ValidationError as error:
            del lines[int(error.field.rpartition(" ")[2]) - 1]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_damaged_machine_is_told_in_part_and_never_in_nonsense(machine: str) -> None:
    text = (RECORDINGS / machine / "machine.recording").read_text().replace("hang ", "fail ")
    for seed in range(6):
        probes = [StorageProbe(0.5) if probe.name == "storage" else probe for probe in all_probes()]
        source = read(damaged(text, seed))
        report = ProbeRunner(source, ProbeOptions(source.options.get("work_dir", "/")), probes).run()
        json.dumps(report.to_plain(), allow_nan=False)
        capabilities = report.capabilities
        assert capabilities.cpu_cores <= (capabilities.host_cpus or capabilities.cpu_cores)
