"""What the reporter tells a registry, and what it keeps when the registry does not answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from agent.reporter import Description, Reporter
from agent.sampler import Sample
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import RefusedError, StoreError
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.status import Condition, Liveness, NodeHealth

NODE = Node(
    ip_address="192.0.2.7",
    id="node-1",
    hostname="h",
    capabilities=NodeCapabilities(cpu_cores=4, memory_gb=16.0, storage_gb=500.0, host_cpus=4),
)
SAMPLE = Sample(load_average=1.0, memory_usage=50.0, disk_usage=40.0)


class Faulty(NodeRegistry):
    """A registry in memory that can be told to fail, and counts registrations."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: Optional[str] = None
        self.refused = False
        self.asked = 0
        self.waits_forgotten = 0
        self.registrations = 0

    def register_node(self, node: Node, *, interval_seconds: Optional[float] = None) -> str:
        self._answer()
        self.registrations += 1
        return super().register_node(node, interval_seconds=interval_seconds)

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        self._answer()
        return super().update_node_health(node_id, load_average, memory_usage, disk_usage)

    def forget_waits(self) -> None:
        self.waits_forgotten += 1

    def _answer(self) -> None:
        self.asked += 1
        if self.refused:
            raise RefusedError("banned", "no")
        if self.broken is not None:
            raise StoreError("/state", self.broken)


@pytest.fixture
def registry() -> Faulty:
    return Faulty()


@pytest.fixture
def reporter(registry: Faulty) -> Reporter:
    return Reporter(registry)


def described(node: Node = NODE, interval_seconds: float = 15.0) -> Description:
    return Description(node, interval_seconds)


def test_it_registers_once_and_again_only_when_something_changed(registry: Faulty, reporter: Reporter) -> None:
    for _ in range(3):
        assert reporter.describe(described())
    assert registry.registrations == 1
    reporter.describe(described(replace(NODE, hostname="other")))
    reporter.describe(described(replace(NODE, hostname="other"), 30.0))
    assert registry.registrations == 3


def test_a_size_that_wavers_is_no_change_and_one_that_drifts_is(registry: Faulty, reporter: Reporter) -> None:
    reporter.describe(described())
    for storage_gb in (501.0, 504.9, 495.1):
        reporter.describe(described(replace(NODE, capabilities=replace(NODE.capabilities, storage_gb=storage_gb))))
    assert registry.registrations == 1
    reporter.describe(described(replace(NODE, capabilities=replace(NODE.capabilities, storage_gb=506.0))))
    assert registry.registrations == 2
    node = registry.get_node(NODE.id)
    assert node is not None
    assert node.capabilities.storage_gb == 506.0


def test_a_report_reaches_the_registry_and_its_answer_is_kept(registry: Faulty, reporter: Reporter) -> None:
    reporter.describe(described())
    assert reporter.report(replace(SAMPLE, memory_usage=95.0, disk_usage=None))
    health = reporter.standing.health
    assert health is not None
    assert health.conditions.memory is Condition.CRITICAL
    assert health.conditions.disk is Condition.UNKNOWN
    assert reporter.standing.delivered == 1


def test_a_registry_that_forgot_the_node_gets_it_again(registry: Faulty, reporter: Reporter) -> None:
    reporter.describe(described())
    registry.deregister_node(NODE.id)
    assert reporter.report(SAMPLE)
    assert registry.get_node(NODE.id) is not None
    assert reporter.standing.problem is None


def test_a_registration_that_failed_is_tried_with_each_report(registry: Faulty, reporter: Reporter) -> None:
    registry.broken = "No space left on device"
    assert not reporter.describe(described())
    assert not reporter.report(SAMPLE)
    assert reporter.standing.problem is not None
    registry.broken = None
    assert reporter.report(SAMPLE)
    assert registry.get_node(NODE.id) is not None
    assert reporter.standing.problem is None


def test_a_change_that_was_taken_back_during_an_outage_is_not_registered(registry: Faulty, reporter: Reporter) -> None:
    reporter.describe(described())
    registry.broken = "away"
    reporter.describe(described(replace(NODE, hostname="other")))
    reporter.describe(described())
    registry.broken = None
    reporter.report(SAMPLE)
    assert registry.registrations == 1


def test_an_outage_is_said_once_and_kept_as_one_summary(
    registry: Faulty, reporter: Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    reporter.describe(described())
    registry.broken = "Input/output error"
    for load in (1.0, 2.0, 6.0):
        reporter.report(replace(SAMPLE, load_average=load, disk_usage=None))
    assert caplog.text.count("cannot report") == 1
    assert reporter.standing.failed == 3
    assert reporter.gap is not None
    plain = reporter.gap.to_plain()
    assert plain["samples"] == 3
    assert plain["gauges"]["load_average"] == {"min": 1.0, "mean": 3.0, "max": 6.0}
    assert "disk_usage" not in plain["gauges"]
    assert "Input/output error" in plain["reason"]
    registry.broken = None
    with caplog.at_level("INFO"):
        reporter.report(SAMPLE)
    assert "reporting again after 3 undelivered samples since" in caplog.text


def test_a_registry_that_the_agent_keeps_is_told_that_the_node_leaves(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    reporter = Reporter(NodeRegistry(path))
    reporter.describe(described())
    reporter.report(SAMPLE)
    reporter.close()
    with NodeRegistry(path) as registry:
        node = registry.get_node(NODE.id)
        assert node is not None
        assert node.liveness is Liveness.LEFT
        reporter = Reporter(registry)
        reporter.describe(described())
        reporter.report(SAMPLE)
        node = registry.get_node(NODE.id)
        assert node is not None
        assert node.liveness is Liveness.LIVE


def test_after_a_refusal_it_asks_again_soon_and_then_ever_more_seldom(registry: Faulty, reporter: Reporter) -> None:
    """A refusal is not sealed: one that somebody else gave, once, costs one report."""
    reporter.describe(described())
    registry.refused = True
    asked = []
    for number in range(80):
        before = registry.asked
        assert not reporter.report(SAMPLE)
        if registry.asked > before:
            asked.append(number)
    assert [later - earlier - 1 for earlier, later in zip(asked, asked[1:])] == [1, 2, 4, 8, 16, 20, 20]
    registry.refused = False
    reporter.try_now()
    assert registry.waits_forgotten == 1
    assert reporter.report(SAMPLE)
    registry.refused = True
    assert not reporter.report(SAMPLE)
    registry.refused = False
    assert [reporter.report(SAMPLE) for _ in range(2)] == [False, True]
