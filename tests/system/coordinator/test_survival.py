"""A coordinator that is killed, restarted, stopped under load: nothing that it answered is lost, nobody is blamed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.coordinators import Running
from tests.support.fake_fleet import LATER, Answer, Followed, Herd, SimulatedNode, all_nodes, later
from tests.support.processes import duxnet, until

NODES = 300
INTERVAL = 1.0
KILLS = 5


class Operator:
    """Orders and outcomes, each sent with the same words until it is answered; what was answered with success."""

    def __init__(self, herd: Herd) -> None:
        self._herd = herd
        self._line = herd.line()
        self._token = herd.running.operator_token()
        self.newcomers: list[SimulatedNode] = []
        self.outcomes: Counter[str] = Counter()
        self.cordons: dict[str, str] = {}
        self.approved: set[str] = set()
        self.over = False

    async def let_nodes_in(self) -> None:
        line = self._herd.line()
        while not self.over:
            node = self._herd.newcomer()
            await node.register(line, self._herd.registrations)
            self.newcomers.append(node)
        line.close()

    async def give_orders(self) -> None:
        number = 0
        while not self.over:
            number += 1
            node_id = random.choice(self._herd.nodes).id
            await self._send("POST", f"{node_id}/outcomes", {"success": True, "task_id": f"task-{number}"})
            self.outcomes[node_id] += 1
            if number % 3 == 0:
                await self._send("PUT", f"{node_id}/cordon", {"reason": f"order {number}"})
                self.cordons[node_id] = f"order {number}"
            if number % 5 == 0 and self.newcomers:
                node_id = random.choice(self.newcomers).id
                if node_id not in self.approved:
                    await self._send("PUT", f"{node_id}/admission", {"admission": "approved"})
                    self.approved.add(node_id)
        self._line.close()

    async def _send(self, method: str, place: str, order: dict[str, Any]) -> Answer:
        body, authorization = json.dumps(order).encode(), f"Authorization: Bearer {self._token}"
        while True:
            try:
                answer = await self._line.exchange(method, f"/v1/nodes/{place}", body, [authorization])
            except ConnectionError:
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200:
                return answer
            assert answer.status in LATER, answer
            await later(answer)


def join_token(running: Running, uses: int) -> str:
    made = duxnet("token", "create", "join", "--uses", uses, "--state-dir", running.state_dir)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def uses_of_join_tokens(running: Running) -> int:
    listed = duxnet("token", "list", "--format", "json", "--state-dir", running.state_dir)
    assert listed.returncode == 0, listed.stderr
    return sum(token["used"] for token in json.loads(listed.stdout)["tokens"] if token["role"] == "join")


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_what_a_killed_coordinator_has_answered_is_kept_and_nobody_goes_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Running(tmp_path / "state", shortest_interval_seconds=INTERVAL, join="token").start()
    token = join_token(running, 100_000)
    with Herd(running, NODES, interval_seconds=INTERVAL, join_token=token) as herd:
        events, operator = Followed(running), Operator(herd)
        work = [herd.alongside(operator.let_nodes_in()), herd.alongside(operator.give_orders())]
        for _ in range(KILLS):
            told = sum(operator.outcomes.values())
            until(lambda told=told: sum(operator.outcomes.values()) > told + 100, "orders are answered")  # type: ignore[misc]
            time.sleep(random.uniform(0, INTERVAL))  # at any instant
            events.read()
            running.kill()
            time.sleep(random.uniform(0, 2 * INTERVAL))
            running.start()
            events.read()
        time.sleep(5 * INTERVAL)  # who is not heard by now goes down
        operator.over = True
        for each in work:
            each.result()
        events.read()
        assert herd.states()["live"] >= NODES
        print_figures(capsys, herd, operator)
    try:
        judge(running, herd, operator, events)
    finally:
        running.stop()
    verified = duxnet("registry", "verify", tmp_path / "state" / "nodes.db")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def print_figures(capsys: pytest.CaptureFixture[str], herd: Herd, operator: Operator) -> None:
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: reports {dict(herd.reports.statuses)}, without an answer "
            f"{sum(herd.reports.failures.values())}; registrations {len(operator.newcomers)}, outcomes "
            f"{sum(operator.outcomes.values())}, cordons {len(operator.cordons)}, approvals {len(operator.approved)}"
        )


def judge(running: Running, herd: Herd, operator: Operator, events: Followed) -> None:
    """Compare what was answered with what is there."""
    ours = {node.id for node in herd.nodes}
    assert herd.reports.odd == []  # no session ended, none was unknown
    assert herd.registrations.odd == []
    assert not set(events.falls()) & ours
    nodes = {node["id"]: node for node in all_nodes(running)}
    expected = ours | {node.id for node in operator.newcomers}
    assert set(nodes) == expected
    assert uses_of_join_tokens(running) == len(expected)  # no place was used up by a registration that was cut off
    for node_id, reason in operator.cordons.items():
        assert nodes[node_id]["cordon"]["reason"] == reason
    assert {node_id for node_id in nodes if nodes[node_id]["scheduling"] == "cordoned"} == set(operator.cordons)
    assert {node_id for node_id in nodes if nodes[node_id]["admission"] == "approved"} == operator.approved
    for node_id, told in operator.outcomes.items():
        evidence = running.call("GET", f"/v1/nodes/{node_id}/reputation")[2]["evidence"]["correctness"]
        assert evidence["successes"] == pytest.approx(told, rel=0.01)  # each once, though it was sent again
        assert evidence["failures"] == 0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_coordinator_that_stands_still_under_a_herd_blames_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"shortest_interval_seconds": INTERVAL, "retention_hours": 1 / 3600}
    with Running(tmp_path / "state", **settings) as running, Herd(running, NODES, interval_seconds=INTERVAL) as herd:
        until(lambda: herd.states()["live"] == NODES, "all live")
        events = Followed(running)
        assert running.process is not None
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(20 * INTERVAL)  # nothing but real time stops a real process
        running.process.send_signal(signal.SIGCONT)
        taken = herd.reports.statuses[200]
        until(lambda: herd.reports.statuses[200] > taken + 5 * NODES, "all report again")
        until(lambda: herd.states() == {"live": NODES, "suspect": 0, "down": 0}, "all live")
        with capsys.disabled():
            print(
                f"\nstood still: {dict(herd.reports.statuses)}, {sum(herd.reports.failures.values())} without an answer"
            )
        assert events.read().falls() == []
        assert herd.reports.odd == []
        assert herd.registrations.statuses[200] == NODES  # nobody had to register again
