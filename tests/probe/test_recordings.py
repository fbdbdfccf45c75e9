"""Every recorded machine, replayed: the whole JSON must be what a person worked out by hand (see its NOTE.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.probe.options import ProbeOptions
from agent.probe.recording import load_recording
from agent.probe.report import ProbeReport
from agent.probe.runner import ProbeRunner
from registry_core.models.encoding import capabilities_to_plain

RECORDINGS = Path(__file__).parent / "recordings"
MACHINES = sorted(folder.name for folder in RECORDINGS.iterdir() if folder.is_dir())


def replayed(machine: str) -> ProbeReport:
    recording = load_recording(str(RECORDINGS / machine))
    options = ProbeOptions(
        recording.options.get("work_dir", "/"), registry_address=recording.options.get("registry_address")
    )
    return ProbeRunner(recording, options).run()


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What differs, named, so that a failure can be read."""
    parts = [name for name in ("schema", "capabilities", "errors") if found[name] != expected[name]]
    lines = [f"{name}:\n  found    {found[name]}\n  expected {expected[name]}" for name in parts]
    lines += [f"found    {reading}" for reading in found["readings"] if reading not in expected["readings"]]
    lines += [f"expected {reading}" for reading in expected["readings"] if reading not in found["readings"]]
    return lines


@pytest.mark.parametrize("machine", MACHINES)
def test_the_recorded_machine_is_told_as_a_person_worked_it_out(machine: str) -> None:
    folder = RECORDINGS / machine
    assert (folder / "NOTE.md").read_text(), "a recording says how its answer was worked out"
    report = replayed(machine)
    found = json.loads(json.dumps(report.to_plain(), allow_nan=False))
    expected = json.loads((folder / "expected.json").read_text())
    assert not differences(found, expected)
    assert found == expected
    accepted = capabilities_to_plain(report.capabilities)
    known = {name: value for name, value in found["capabilities"].items() if value is not None}
    assert {name: accepted[name] for name in known} == known, "the registry accepts it unchanged"
