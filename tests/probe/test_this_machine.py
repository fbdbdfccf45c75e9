"""The probe on the machine that runs the tests: whole, and in agreement with what other programs say."""

from __future__ import annotations

import json
import os

import pytest

from agent.probe.live_source import LiveSource
from agent.probe.options import ProbeOptions
from agent.probe.report import CAPABILITY_DEFAULTS
from agent.probe.runner import ProbeRunner
from registry_core.models.encoding import capabilities_to_plain
from registry_core.models.node import NodeCapabilities

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


def test_the_report_holds_exactly_the_four_parts() -> None:
    plain = ProbeRunner(LiveSource(), ProbeOptions("/")).run().to_plain()
    assert list(plain) == ["schema", "capabilities", "readings", "errors"]
    json.dumps(plain, allow_nan=False)


def test_the_offered_cpus_are_never_more_than_the_scheduler_allows() -> None:
    capabilities = ProbeRunner(LiveSource()).run(["cpu"]).capabilities
    assert 1 <= capabilities.cpu_cores <= len(os.sched_getaffinity(0))


def test_the_written_out_capabilities_are_those_of_the_record() -> None:
    assert capabilities_to_plain(NodeCapabilities()) == CAPABILITY_DEFAULTS


def test_a_run_of_one_probe_keeps_what_the_others_found_before() -> None:
    runner = ProbeRunner(LiveSource())
    whole = runner.run(["cpu", "memory"])
    assert runner.run(["cpu"]).capabilities.memory_gb == whole.capabilities.memory_gb
