"""A network where nobody is approved: long and steady presence has a voice in the breaker, and nobody holds it open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from registry_core import NodeRegistry
from tests.coordinator.liveness.test_mass_failure import breakers
from tests.support.coordinators import Running
from tests.support.fake_fleet import Followed, Herd
from tests.support.processes import until

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it

INTERVAL = 0.5
NODES = 20
SILENT = 6  # 30 %: more than the 15 that open the breaker
SETTINGS: dict[str, Any] = {"shortest_interval_seconds": INTERVAL}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.begun = datetime.now(timezone.utc)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.begun + timedelta(seconds=self.seconds)


def let_pass(state_dir: Path, days: float, *, breaks: bool) -> None:
    """The nodes in the file have been there for so many days; `breaks`: away for four hours of each twelve."""
    clock = Clock()
    with NodeRegistry(state_dir / "nodes.db", clock=clock, heartbeat_timeout_seconds=7200.0) as registry:
        ids = [node.id for node in registry.list_nodes()]
        for step in range(int(days * 24 * 2)):
            clock.seconds += 1800
            registry.tick()
            for node_id in ids:
                if not breaks or step % 24 < 16 or step % 24 == 23:
                    registry.update_node_health(node_id)
        for node_id in ids:
            registry.update_node_health(node_id)
        while registry.host.settle_hours():
            pass


@contextmanager
def herd_after(state_dir: Path, days: float, *, breaks: bool) -> Iterator[tuple[Running, Herd]]:
    """Nodes that registered, what they did since, and a coordinator that starts with them."""
    with Running(state_dir, **SETTINGS) as first, Herd(first, NODES, interval_seconds=INTERVAL) as herd:
        first.stop()
        let_pass(state_dir, days, breaks=breaks)
        with Running(state_dir, port=first.port, **SETTINGS) as running:
            herd.running = running
            yield running, herd


@pytest.mark.timeout(120)
def test_steady_nodes_that_nobody_approved_open_the_breaker_once_and_cannot_hold_it(tmp_path: Path) -> None:
    with herd_after(tmp_path / "state", 8, breaks=False) as (running, herd):
        until(lambda: herd.states()["live"] == NODES, "all live")
        time.sleep(1.0)  # the look at all of them is over
        assert "the mass-failure breaker is off" not in running.output()
        events = Followed(running)
        herd.silent = {node.id for node in herd.nodes[:SILENT]}
        until(lambda: breakers(running) == ["global"], "the breaker opens")
        time.sleep(6 * INTERVAL)
        assert events.read().falls() == []
        herd.silent = set()
        until(lambda: breakers(running) == [], "it closes when they return")
        until(lambda: herd.states()["live"] == NODES, "all live again")
        time.sleep(3 * INTERVAL)  # who returns late is held no more
        # The same ones again: they have lost their voice, so that what strangers do keeps nobody from being judged.
        herd.silent = {node.id for node in herd.nodes[:SILENT]}
        until(lambda: sorted(events.read().falls()) == sorted(herd.silent), "they are called down", 15.0)
        assert breakers(running) == []
        # Others have theirs still.
        herd.silent |= {node.id for node in herd.nodes[SILENT : 2 * SILENT]}
        until(lambda: breakers(running) == ["global"], "the breaker opens")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("days", "breaks"), [(2, False), (8, True)], ids=["new", "unsteady"])
def test_nodes_that_are_new_or_unsteady_have_no_voice_and_the_start_says_that_the_breaker_is_off(
    tmp_path: Path, days: float, breaks: bool
) -> None:
    with herd_after(tmp_path / "state", days, breaks=breaks) as (running, herd):
        until(lambda: "the mass-failure breaker is off" in running.output(), "it is told")
        until(lambda: herd.states()["live"] == NODES, "all live")
        herd.silent = {node.id for node in herd.nodes[:SILENT]}
        until(lambda: herd.states()["down"] == SILENT, "they are called down", 15.0)
        assert breakers(running) == []
