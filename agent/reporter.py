"""Registers the node, reports its samples, and keeps what could not be delivered.

Uses only the `Reporting` part of the registry's contract. During an outage it keeps the newest sample and one summary
of the gap.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from agent.description import changed_fields
from agent.offline_summary import Gap, forget_gap, keep_gap, kept_gap
from agent.sampler import Sample
from registry_core.clock import Clock, SystemClock
from registry_core.contract import Reporting
from registry_core.errors import RefusedError, RegistryError, UnknownNodeError
from registry_core.models.node import Node
from registry_core.models.status import NodeHealth

__all__ = ["GAP_FILE", "Description", "Reporter", "Standing"]

_log = logging.getLogger("agent.report")

GAP_FILE = "outage.json"
REFUSED_PAUSE_INTERVALS = 20
"""After refusals that only a person can fix: the maximum number of reports to hold back before the next attempt. The
number starts at one and doubles, because the cause may be fixed soon."""


@dataclass(frozen=True)
class Standing:
    """The state of reporting: the newest health from the registry, the reason of an ongoing failure, and counts.

    `withheld` lists why the registry gives this node no work although it reports.
    """

    health: Optional[NodeHealth] = None
    problem: Optional[str] = None
    delivered: int = 0
    failed: int = 0
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """What is registered: the record, and the interval at which this node reports."""

    node: Node
    interval_seconds: float

    def changed_since(self, before: Description) -> list[str]:
        """The names of the fields that differ; empty if a new registration is not needed."""
        changed = changed_fields(before.node, self.node)
        return [*changed, "interval"] if self.interval_seconds != before.interval_seconds else changed


class Reporter:
    """Sends registrations and reports. Safe to call from the sampling and the probing thread at once."""

    def __init__(self, registry: Reporting, clock: Optional[Clock] = None, gap_file: Optional[Path] = None) -> None:
        self._registry = registry
        self._gap_file = gap_file
        self._pause = 0  # reports to hold back
        self._refusals = 0  # in a row
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._wanted: Optional[Description] = None
        self._registered: Optional[Description] = None
        self.standing = Standing()
        self.gap: Optional[Gap] = kept_gap(gap_file) if gap_file is not None else None

    @property
    def requested_interval_seconds(self) -> float:
        """The report interval that the registry requests; 0 if it requests none."""
        return self._registry.requested_interval_seconds

    def describe(self, description: Description) -> bool:
        """Register `description` if it differs from the registered one. True when it is registered.

        A registration that fails is retried with each report.
        """
        with self._lock:
            if self._registered is not None and not description.changed_since(self._registered):
                self._wanted = None
                return True
            self._wanted = description
            try:
                self._register()
            except RegistryError as error:
                self._failed(error, None)
                return False
            return True

    def report(self, sample: Sample) -> bool:
        """Deliver a sample; True if it was delivered. An unknown node is registered again; other errors are logged."""
        with self._lock:
            if self._pause > 0:
                self._pause -= 1
                self._hold_back(sample, self.standing.problem or "refused")
                return False
            try:
                if self._wanted is not None:
                    self._register()
                health = self._deliver(sample)
            except RegistryError as error:
                self._failed(error, sample)
                return False
            self._delivered(health)
            return True

    def try_now(self) -> None:
        """Send the next report without waiting, whatever the registry answered before."""
        self._pause = 0
        self._registry.forget_waits()

    def close(self) -> None:
        """Tell the registry that this node is leaving, and close it."""
        if self._registered is not None:
            try:
                self._registry.leave(self._registered.node.id)
            except RegistryError as error:
                _log.warning("cannot report to the registry that this node is leaving: %s", error)
        try:
            self._registry.close()
        except RegistryError as error:
            _log.warning("the newest sample could not be saved: %s", error)

    def _deliver(self, sample: Sample) -> NodeHealth:
        registered = self._registered
        assert registered is not None, "describe() comes before report()"
        node_id = registered.node.id
        gauges = (sample.load_average, sample.memory_usage, sample.disk_usage)
        if self.gap is not None:
            self._registry.report_gap(self.gap.to_plain())
        try:
            return self._registry.update_node_health(node_id, *gauges)
        except UnknownNodeError:
            _log.warning("the registry does not know this node: registering it again")
            self._wanted = registered
            self._register()
            return self._registry.update_node_health(node_id, *gauges)

    def _register(self) -> None:
        wanted = self._wanted
        assert wanted is not None
        self._registry.register_node(wanted.node, interval_seconds=wanted.interval_seconds)
        changed = [] if self._registered is None else wanted.changed_since(self._registered)
        again = f" again: {', '.join(changed)} changed" if changed else ""
        _log.info("registered%s", again, extra={"fields": {"node_id": wanted.node.id}})
        self._registered, self._wanted = wanted, None

    def _delivered(self, health: NodeHealth) -> None:
        if self.standing.problem is not None:
            _log.info("reporting again%s", f" after {self.gap}" if self.gap else "")
        self._forget_gap()
        self._refusals = 0
        withheld = self._registry.withheld_reasons
        for reason in withheld:
            if reason not in self.standing.withheld:
                _log.warning("the registry gives this node no work: %s", reason)
        if self.standing.withheld and not withheld:
            _log.info("the registry gives this node work again")
        self.standing = Standing(health, None, self.standing.delivered + 1, self.standing.failed, withheld)

    def _failed(self, error: RegistryError, sample: Optional[Sample]) -> None:
        problem = str(error)
        if problem != self.standing.problem:  # log it once, not at every interval
            _log.error("cannot report: %s", problem, extra={"fields": {"problem": type(error).__name__}})
        if isinstance(error, RefusedError):
            self._pause = min(2**self._refusals, REFUSED_PAUSE_INTERVALS)
            self._refusals = min(self._refusals + 1, REFUSED_PAUSE_INTERVALS)
        if sample is not None:
            self._hold_back(sample, problem)
        else:
            self.standing = replace(self.standing, problem=problem)

    def _hold_back(self, sample: Sample, problem: str) -> None:
        now = self._clock.now()
        self.gap = self.gap.with_sample(sample, now) if self.gap else Gap.begun(sample, now, problem)
        if self._gap_file is not None:
            keep_gap(self._gap_file, self.gap)
        self.standing = replace(self.standing, problem=problem, failed=self.standing.failed + 1)

    def _forget_gap(self) -> None:
        if self.gap is not None and self._gap_file is not None:
            forget_gap(self._gap_file)
        self.gap = None
