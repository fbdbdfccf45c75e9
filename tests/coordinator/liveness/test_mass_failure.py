"""Mass failures against a real coordinator: a herd of simulated nodes, of which many fall silent at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from registry_core.rules.breaker import HOLD_INTERVALS
from tests.support.coordinators import Running
from tests.support.fake_fleet import Followed, Herd, Line, Tally, all_nodes
from tests.support.processes import duxnet, until

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


NODES = 50
INTERVAL = 0.5
RETENTION_SECONDS = 2.0


def breakers(running: Running) -> list[str]:
    return list(running.call("GET", "/healthz")[2]["breakers"])


def who_say_degraded(running: Running, herd: Herd) -> set[str]:
    """Which of the answers that tell it do: a list, who answers here, a heartbeat's, a registration's."""
    told = {path: running.call("GET", path)[2]["degraded"] for path in ("/v1/nodes", "/v1/coordinator", "/healthz")}

    async def spoken() -> None:
        line, newcomer = Line(running.port, 10.0), herd.newcomer()
        told["registration"] = (await newcomer.try_to_register(line, Tally())).plain["degraded"]
        told["heartbeat"] = (await newcomer.report(line, Tally())).plain["degraded"]
        line.close()
        assert running.call("DELETE", f"/v1/nodes/{newcomer.id}", token=running.operator_token())[0] == 204

    herd.alongside(spoken()).result()
    return {name for name, degraded in told.items() if degraded}


EVERYBODY = {"/v1/nodes", "/v1/coordinator", "/healthz", "registration", "heartbeat"}


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"shortest_interval_seconds": INTERVAL, "retention_hours": RETENTION_SECONDS / 3600}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_when_most_fall_silent_nobody_is_called_down_and_all_is_well_when_they_return(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with Running(tmp_path / "state", **settings) as running, Herd(running, NODES, interval_seconds=INTERVAL) as herd:
        herd.approve(herd.nodes)
        until(lambda: herd.states()["live"] == NODES, "all live")
        assert who_say_degraded(running, herd) == set()
        events = Followed(running)
        herd.silent = {node.id for node in herd.nodes[: NODES * 6 // 10]}
        until(lambda: breakers(running) == ["global"], "the breaker opens")
        assert who_say_degraded(running, herd) == EVERYBODY
        assert "many nodes went silent at once" in duxnet("nodes", "list", "--registry", running.address).stderr
        until(lambda: herd.states()["suspect"] == len(herd.silent), "the silent are suspect")
        time.sleep(6 * INTERVAL + RETENTION_SECONDS)  # beyond the time of being called down, and of the retention
        assert herd.states() == {"live": NODES - len(herd.silent), "suspect": len(herd.silent), "down": 0}
        assert events.read().falls() == []
        assert set(events.removed()) & {node.id for node in herd.nodes} == set()
        herd.silent = set()
        until(lambda: breakers(running) == [], "it closes when they return")
        until(lambda: herd.states()["live"] == NODES, "all live again")
        assert events.read().falls() == []  # nor did the last to return when it closed before them
        assert who_say_degraded(running, herd) == set()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_fifth_that_never_returns_is_held_while_the_breaker_is_open_then_removed(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with Running(tmp_path / "state", **settings) as running, Herd(running, NODES, interval_seconds=INTERVAL) as herd:
        herd.approve(herd.nodes)
        until(lambda: herd.states()["live"] == NODES, "all live")
        events = Followed(running)
        gone = {node.id for node in herd.nodes[: NODES // 5]}
        herd.silent = gone
        until(lambda: breakers(running) == ["global"], "the breaker opens")
        opened = time.monotonic()
        while breakers(running):
            assert not events.read().falls()  # read before the next look: it closed after that
            assert running.call("GET", "/v1/count")[2] == {"count": NODES}
            assert time.monotonic() - opened < 2 * HOLD_INTERVALS * INTERVAL, "it never closes"
            time.sleep(INTERVAL / 5)
        held = time.monotonic() - opened
        assert held > 0.9 * HOLD_INTERVALS * INTERVAL  # by itself, and not before its time
        until(lambda: running.call("GET", "/v1/count")[2] == {"count": NODES - len(gone)}, "the lost are removed")
        assert sorted(events.read().falls()) == sorted(gone)  # each once, and nobody else
        assert sorted(events.removed()) == sorted(gone)
        assert {node["id"]: node["liveness"] for node in all_nodes(running)} == {
            node.id: "live" for node in herd.nodes if node.id not in gone
        }
        assert who_say_degraded(running, herd) == set()
    entries = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]
    by_retention = [entry["node_id"] for entry in entries if entry["actor"] == "retention"]
    assert sorted(by_retention) == sorted(gone)
