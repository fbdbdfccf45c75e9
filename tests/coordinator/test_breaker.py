"""Mass failures against a real coordinator: a herd of simulated nodes, of which many fall silent at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.agent.running import until
from tests.coordinator.running import Running
from tests.coordinator.test_identity import Signer

INTERVAL = 0.5


class Herd:
    """Registered and approved nodes that report from one thread; `silent` ones do not."""

    def __init__(self, running: Running, count: int) -> None:
        self.running = running
        self.signers = [Signer(running) for _ in range(count)]
        self.silent: set[str] = set()
        self._sessions: dict[str, str] = {}
        self._sequence = 0
        self._over = threading.Event()
        operator = running.operator_token()
        for signer in self.signers:
            self._sessions[signer.node_id] = signer.register(interval_seconds=INTERVAL)[2]["session"]
            running.call("PUT", f"/v1/nodes/{signer.node_id}/admission", {"admission": "approved"}, operator)
        self._thread: Optional[threading.Thread] = None

    def __enter__(self) -> Herd:
        self._thread = threading.Thread(target=self._report)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _report(self) -> None:
        while not self._over.wait(INTERVAL / 2):
            self._sequence += 1
            for node_id, session in self._sessions.items():
                if node_id not in self.silent and not self._over.is_set():
                    self.running.call("PUT", f"/v1/nodes/{node_id}/heartbeat", {"sequence": self._sequence}, session)

    def states(self) -> dict[str, int]:
        nodes = self.running.call("GET", "/v1/nodes?limit=1000")[2]["nodes"]
        found = [node["liveness"] for node in nodes]
        return {state: found.count(state) for state in ("live", "suspect", "down")}

    def breakers(self) -> Any:
        return self.running.call("GET", "/healthz")[2]["breakers"]


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_when_most_fall_silent_nobody_is_called_down_and_real_losses_are_removed_in_the_end(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"shortest_interval_seconds": INTERVAL, "retention_hours": 2 / 3600}
    with Running(tmp_path / "state", **settings) as running, Herd(running, 20) as herd:
        until(lambda: herd.states()["live"] == 20, "all live")
        herd.silent = {signer.node_id for signer in herd.signers[:12]}  # 60 %
        until(lambda: herd.breakers() == ["global"], "the breaker opens")
        assert running.call("GET", "/v1/nodes")[2]["degraded"] is True
        until(lambda: herd.states()["suspect"] == 12, "the silent are suspect")
        time.sleep(6 * INTERVAL)  # beyond the time of being called down, and of the retention
        assert herd.states() == {"live": 8, "suspect": 12, "down": 0}
        herd.silent = set()
        until(lambda: herd.breakers() == [], "it closes when they return")
        until(lambda: herd.states()["live"] == 20, "all live again")
        gone = {signer.node_id for signer in herd.signers[:5]}  # 25 %, for good
        herd.silent = gone
        until(lambda: herd.breakers() == ["global"], "it opens again")
        begun = time.monotonic()
        while herd.breakers() and time.monotonic() - begun < 40:
            time.sleep(0.5)
        assert herd.breakers() == []  # by itself, after 40 intervals
        until(lambda: running.call("GET", "/v1/count")[2] == {"count": 15}, "the lost are removed")
        assert herd.states()["live"] == 15
        log = (tmp_path / "state" / "audit.jsonl").read_text()
        assert log.count('"actor": "retention", "action": "removed"') == 5
