"""Ten thousand agents that register at once: after a power cut, or when an operator lets a fleet in."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.coordinators import Running
from tests.support.fake_fleet import Followed, Herd, Line, SimulatedNode, Tally, all_nodes

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


AGENTS = 10_000
CONNECTIONS = 500
INTERVAL = 5.0  # what the coordinator asks of so many nodes when nothing is set
ANSWER_SECONDS = 0.4 * INTERVAL  # an agent that waits longer gives up: so long may an answer take, also in a storm
KIB_FOR_EACH_NODE = 4  # its record in caches and indices, its session, its hours
KIB_FOR_EACH_CONNECTION = 64 + 32  # the largest registration that is read, and what a request needs meanwhile


@dataclass
class Health:
    """How the coordinator answered somebody who looked at it all the while."""

    slowest_seconds: float = 0.0
    looks: int = 0

    @contextmanager
    def watched(self, running: Running) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.1):
                begun = time.monotonic()
                assert running.call("GET", "/healthz")[0] == 200
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
                self.looks += 1

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def peak_mib(running: Running) -> float:
    """The most memory that the coordinator ever had resident."""
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


async def storm(herd: Herd, nodes: list[SimulatedNode], tally: Tally, *, fresh: bool) -> None:
    """Every node comes at once and again until it is in; `fresh`: on a new connection each time."""
    free: asyncio.Queue[Line] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(herd.line())

    async def come(node: SimulatedNode) -> None:
        while not node.session:
            line = await free.get()
            try:
                answer = await node.try_to_register(line, tally)
            except ConnectionError as error:
                tally.failures[str(error)] += 1
                answer = None
            finally:
                if fresh:
                    line.close()
                free.put_nowait(line)
            asked = int(answer.headers.get("retry-after", "0")) if answer is not None else 1
            if not node.session:
                await asyncio.sleep(asked + random.uniform(0, 1))

    await asyncio.gather(*(come(node) for node in nodes))
    while not free.empty():
        free.get_nowait().close()


async def report_once(herd: Herd, nodes: list[SimulatedNode], tally: Tally) -> None:
    """One heartbeat of every node, some at a time."""

    async def report(some: list[SimulatedNode]) -> None:
        line = herd.line()
        for node in some:
            await node.report(line, tally)
        line.close()

    await asyncio.gather(*(report(nodes[start::50]) for start in range(50)))


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fresh", [False, True], ids=["on-500-connections", "on-a-new-connection-each-time"])
def test_ten_thousand_agents_that_come_at_once_all_get_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, fresh: bool
) -> None:
    with Running(tmp_path / "state") as running, Herd(running, 100, interval_seconds=INTERVAL) as herd:
        events = Followed(running)
        nodes = [herd.newcomer() for _ in range(AGENTS)]
        before = peak_mib(running)
        health, tally, reports = Health(), Tally(), Tally()
        begun = time.monotonic()
        with health.watched(running):
            herd.alongside(storm(herd, nodes, tally, fresh=fresh)).result()
            took = time.monotonic() - begun
            herd.alongside(report_once(herd, nodes, reports)).result()
        grown = peak_mib(running) - before
        with capsys.disabled():
            print(
                f"\n{AGENTS:,} agents in {took:.1f} s ({AGENTS / took:,.0f}/s), answers {dict(tally.statuses)}, "
                f"no answer {dict(tally.failures)}; /healthz at most {1000 * health.slowest_seconds:.0f} ms of "
                f"{health.looks} times; memory {before:.0f} → {before + grown:.0f} MiB"
            )
        assert tally.odd == []
        assert tally.statuses[200] == AGENTS
        assert not tally.failures
        assert health.slowest_seconds < ANSWER_SECONDS
        assert grown < (AGENTS * KIB_FOR_EACH_NODE + CONNECTIONS * KIB_FOR_EACH_CONNECTION) / 1024
        expected = Counter(node.id for node in [*nodes, *herd.nodes])
        assert Counter(node["id"] for node in all_nodes(running)) == expected
        assert registered_in_audit(running) == expected
        assert reports.odd == []  # each has a session that holds
        assert not set(events.read().falls()) & {node.id for node in herd.nodes}  # those who were in went on


def registered_in_audit(running: Running) -> Counter[str]:
    lines = (running.state_dir / "audit.jsonl").read_text().splitlines()
    return Counter(entry["node_id"] for entry in map(json.loads, lines) if entry["action"] == "registered")
