"""Real agents and a real coordinator through outages on either side. Times are scaled by the interval."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.events import RING_SIZE
from registry_core.models.node import Node
from registry_core.testing import HandClock
from tests.support.builders import a_node
from tests.support.coordinators import Running
from tests.support.processes import RunningAgent, duxnet, until
from tests.system.coordinator.test_identity import Signer

INTERVAL = 0.25


def a_coordinator(tmp_path: Path, **settings: Any) -> Running:
    return Running(tmp_path / "coordinator", shortest_interval_seconds=INTERVAL, **settings)


def an_agent(tmp_path: Path, running: Running, name: str = "agent", **environ: str) -> RunningAgent:
    return RunningAgent(tmp_path / name, "--registry", running.address, interval=INTERVAL, environ=environ)


def shown(running: Running, node_id: str) -> dict[str, Any]:
    status, _, node = running.call("GET", f"/v1/nodes/{node_id}")
    return node if status == 200 else {}


def liveness_events(running: Running, node_id: str, since: int = 0) -> list[str]:
    status, _, page = running.call("GET", f"/v1/events?since={since}")
    if status == 410:  # a restart begins a new ring
        page = running.call("GET", f"/v1/events?since={page['oldest_index'] - 1}")[2]
    return [
        f"{event['details']['from']}-{event['details']['to']}"
        for event in page["events"]
        if event["kind"] == "liveness" and event["node_id"] == node_id
    ]


def first_index(running: Running) -> int:
    return int(running.call("GET", "/v1/events")[2]["last"])


def test_an_agent_reports_and_the_desk_shows_it(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as running, an_agent(tmp_path, running) as agent:
        status = agent.wait_for_reports(3)
        assert status["problem"] is None
        listed = duxnet("nodes", "list", "--registry", running.address, "--format", "json")
        assert listed.returncode == 0, listed.stderr
        (node,) = json.loads(listed.stdout)["nodes"]
        assert node["id"] == status["node_id"]
        assert node["liveness"] == "live"
        assert node["capabilities"]["cpu_cores"] >= 1
        agent.stop()
        assert shown(running, status["node_id"])["liveness"] == "left"  # it took leave: no failure


@pytest.mark.slow
def test_an_agent_goes_on_through_an_outage_and_tells_of_the_gap_once(tmp_path: Path) -> None:
    running = a_coordinator(tmp_path)
    running.start()
    with an_agent(tmp_path, running) as agent:
        node_id = agent.wait_for_reports(2)["node_id"]
        running.kill()
        status = until(lambda: (s := agent.status())["problem"] and s["reports_failed"] >= 2 and s, "a failed report")
        assert "cannot be reached" in status["problem"]
        agent.process.kill()  # and the agent dies as well
        agent.process.wait()
        assert (tmp_path / "agent" / "outage.json").exists()
        with RunningAgent(tmp_path / "agent", "--registry", running.address, interval=INTERVAL) as again:
            until(lambda: again.status().get("pid") == again.process.pid and again.status()["problem"], "a failure")
            with running:
                again.wait_for_reports(2)
                gap = shown(running, node_id)["last_gap"]
                assert gap["samples"] >= 2
                assert gap["gauges"]["memory_usage"]["min"] <= gap["gauges"]["memory_usage"]["max"]
                assert not (tmp_path / "agent" / "outage.json").exists()
                assert again.status()["problem"] is None


@pytest.mark.slow
def test_a_coordinator_that_stood_still_blames_nobody(tmp_path: Path) -> None:
    interval = 3 * INTERVAL  # the agent must be heard within four of them once it listens again, on a busy machine too
    with (
        Running(tmp_path / "coordinator", shortest_interval_seconds=interval) as running,
        RunningAgent(tmp_path / "agent", "--registry", running.address, interval=interval) as agent,
    ):
        node_id = agent.wait_for_reports(3)["node_id"]
        since = first_index(running)
        assert running.process is not None
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(12 * interval)  # nothing but real time stops a real process
        running.process.send_signal(signal.SIGCONT)
        agent.wait_for_reports(4)
        assert "live-down" not in liveness_events(running, node_id, since)
        assert "suspect-down" not in liveness_events(running, node_id, since)
        assert shown(running, node_id)["liveness"] == "live"


@pytest.mark.slow
def test_a_killed_and_restarted_coordinator_takes_nobody_down(tmp_path: Path) -> None:
    running = a_coordinator(tmp_path)
    running.start()
    with an_agent(tmp_path, running, "one") as one, an_agent(tmp_path, running, "two") as two:
        ids = [agent.wait_for_reports(2)["node_id"] for agent in (one, two)]
        running.kill()
        time.sleep(6 * INTERVAL)
        with running:
            for agent in (one, two):
                agent.wait_for_reports(3)
            for node_id in ids:
                assert shown(running, node_id)["liveness"] == "live"
                assert not [word for word in liveness_events(running, node_id) if word.endswith("down")]
            assert running.call("GET", "/v1/count")[2] == {"count": 2}


def ready_ids(running: Running) -> set[str]:
    return {node["id"] for node in running.call("GET", "/v1/nodes?only_healthy=true")[2]["nodes"]}


@pytest.mark.slow
def test_a_node_that_is_down_stays_so_over_restarts_until_it_is_heard(tmp_path: Path) -> None:
    with (
        a_coordinator(tmp_path) as running,
        an_agent(tmp_path, running, "down") as sleeper,
        an_agent(tmp_path, running, "live") as other,
    ):
        asleep, awake = (agent.wait_for_reports(2)["node_id"] for agent in (sleeper, other))
        sleeper.process.send_signal(signal.SIGSTOP)
        until(lambda: shown(running, asleep)["liveness"] == "down", "down")
        for end in (running.stop, running.kill):  # the kill finds what the stop had saved
            end()
            running.start()
            assert shown(running, asleep)["liveness"] == "down"
            assert asleep not in ready_ids(running)
            other.wait_for_reports(2)
            until(lambda: ready_ids(running) == {awake}, "only the other is ready")
            assert not [word for word in liveness_events(running, awake) if word.endswith("down")]
        sleeper.process.send_signal(signal.SIGCONT)
        until(lambda: ready_ids(running) == {asleep, awake}, "both are ready")
        assert liveness_events(running, asleep) == ["down-live"]


@pytest.mark.slow
def test_a_node_that_was_down_before_a_restart_is_removed_after_its_retention(tmp_path: Path) -> None:
    with (
        a_coordinator(tmp_path) as running,
        an_agent(tmp_path, running, "gone") as gone,
        an_agent(tmp_path, running, "live") as other,
    ):
        lost, kept = (agent.wait_for_reports(2)["node_id"] for agent in (gone, other))
        gone.process.kill()
        until(lambda: shown(running, lost)["liveness"] == "down", "down")
        running.stop()
        running.settings["retention_hours"] = 1.5 / 3600
        running.start()
        assert shown(running, lost)["liveness"] == "down"  # the time is counted anew
        until(lambda: not shown(running, lost), "removed")
        assert shown(running, kept)["liveness"] == "live"
        log = (tmp_path / "coordinator" / "audit.jsonl").read_text()
        assert log.count('"actor": "retention", "action": "removed"') == 1


@pytest.mark.slow
def test_a_record_that_cannot_be_read_stops_the_time_of_no_other_node(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, retention_hours=2 / 3600) as running:
        signers = [Signer(running) for _ in range(2)]
        for signer in signers:
            assert signer.register(interval_seconds=INTERVAL)[0] == 200
    damaged, other = (signer.node_id for signer in signers)
    with closing(sqlite3.connect(tmp_path / "coordinator" / "nodes.db")) as file, file:
        file.execute("UPDATE nodes SET record = substr(record, 1, length(record) - 9) || 'x' WHERE id = ?", [damaged])
    with running:
        assert shown(running, other)["liveness"] == "live"
        assert running.call("GET", f"/v1/nodes/{damaged}")[0] == 503
        until(lambda: not shown(running, other), "the other one goes down and is removed")
        until(lambda: f"cannot remove {damaged}" in running.output(), "the damaged one is told of")
        assert "Traceback" not in running.output()


@pytest.mark.slow
def test_more_nodes_than_events_are_kept_do_not_return_after_a_restart_and_are_removed_all_the_same(
    tmp_path: Path,
) -> None:
    running = a_coordinator(tmp_path, retention_hours=0.1 / 3600, heartbeats_per_second=1e6)
    with NodeRegistry(tmp_path / "coordinator" / "nodes.db") as registry, registry.batch():
        for number in range(RING_SIZE + 100):  # all will be down at the same moment
            registry.register_node(Node("192.0.2.1", id=f"node-{number}"))
    with running:
        until(lambda: not shown(running, "node-0"), "removed, although nobody can have been told that it is down")


def test_nodes_that_were_down_before_a_restart_open_no_breaker(tmp_path: Path) -> None:
    clock, running = HandClock(), a_coordinator(tmp_path)
    with NodeRegistry(tmp_path / "coordinator" / "nodes.db", clock=clock, heartbeat_timeout_seconds=60) as registry:
        for number in range(8):
            registry.register_node(a_node(number))
            registry.admin.approve(f"node-{number}")
        clock.move(61)
        registry.tick()
    with running:
        until(lambda: running.call("GET", "/readyz")[0] == 200, "ready")  # after the time in which silence would show
        assert running.call("GET", "/healthz")[2]["breakers"] == []
        assert {shown(running, f"node-{number}")["liveness"] for number in range(8)} == {"down"}


@pytest.mark.slow
def test_a_sleeping_agent_wakes_once_and_does_not_flap(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as running, an_agent(tmp_path, running) as agent:
        node_id = agent.wait_for_reports(2)["node_id"]
        agent.process.send_signal(signal.SIGSTOP)
        until(lambda: shown(running, node_id)["liveness"] == "down", "down")
        since = first_index(running)
        agent.process.send_signal(signal.SIGCONT)
        agent.wait_for_reports(6)
        assert liveness_events(running, node_id, since)[-1].endswith("-live")
        assert len([word for word in liveness_events(running, node_id, since) if word.endswith("-live")]) == 1


@pytest.mark.slow
def test_a_refused_agent_says_what_to_do_and_does_not_hammer(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, join="token") as running:
        with an_agent(tmp_path, running) as agent:
            status = until(lambda: (s := agent.status()).get("problem") and s, "a problem")
            assert "duxnet token create join" in status["problem"]
            assert "none was given" in status["problem"]
            examined = duxnet("doctor", "--state-dir", tmp_path / "agent").stdout
            assert "restart the agent after a change of [registry]" in examined
            until(lambda: agent.status()["reports_failed"] >= 6, "six kept back")
            page = running.call("GET", "/metrics")[2]
            (line,) = [text for text in page.splitlines() if 'kind="join-token"' in text]
            assert int(line.rpartition(" ")[2]) <= 3  # it keeps back 1, 2, 4 … reports after each refusal
            agent.stop()
        made = duxnet("token", "create", "join", "--state-dir", running.state_dir)
        assert made.returncode == 0, made.stderr
        assert f"at the coordinator in {running.state_dir}, valid until" in made.stderr
        assert "for 1 node;" in made.stderr
        with an_agent(tmp_path, running, "wrong", DUXNET_REGISTRY__JOIN_TOKEN=running.operator_token()) as agent:
            status = until(lambda: (s := agent.status()).get("problem") and s, "a problem")
            assert "not a join token of this network" in status["problem"]
        with an_agent(tmp_path, running, DUXNET_REGISTRY__JOIN_TOKEN=made.stdout.strip()) as agent:
            assert agent.wait_for_reports(1)["problem"] is None
        with an_agent(tmp_path, running, "second", DUXNET_REGISTRY__JOIN_TOKEN=made.stdout.strip()) as agent:
            status = until(lambda: (s := agent.status()).get("problem") and s, "a problem")  # it was for one node
            assert "join token" in status["problem"]


@pytest.mark.slow
def test_a_banned_agent_says_that_it_is_and_why(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as running, an_agent(tmp_path, running) as agent:
        path = f"/v1/nodes/{agent.wait_for_reports(1)['node_id']}/admission"
        order = {"admission": "banned", "reason": "fake GPUs"}
        assert running.call("PUT", path, order, running.operator_token())[0] == 200
        status = until(lambda: (s := agent.status()).get("problem") and s, "a problem")
        assert "excluded this node: fake GPUs; contact the network's operator" in status["problem"]


@pytest.mark.slow
def test_an_agent_whose_coordinator_was_made_anew_is_told_what_to_remove(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as first, an_agent(tmp_path, first) as agent:
        agent.wait_for_reports(1)
        first.stop()
        other = tmp_path / "anew"
        with Running(other, first.port, shortest_interval_seconds=0.2):
            until(lambda: "remove remote.json" in (agent.status()["problem"] or ""), "the remedy")
            agent.stop()
            (tmp_path / "agent" / "remote.json").unlink()
            with an_agent(tmp_path, first) as again:
                assert again.wait_for_reports(1)["problem"] is None


@pytest.mark.slow
def test_an_agent_that_must_wait_is_told_why_and_by_whom_it_is_mended(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, join="approval") as running, an_agent(tmp_path, running) as agent:
        status = agent.wait_for_reports(1)
        assert status["problem"] is None
        (note,) = status["warnings"]
        assert "admission is pending (approval): an operator must approve the node" in note
        told = duxnet("status", "--state-dir", tmp_path / "agent")
        assert "this node gets no work" in told.stdout
        examined = duxnet("doctor", "--state-dir", tmp_path / "agent")
        assert examined.returncode == 1
        assert "PROBLEM work: this node gets no work" in examined.stdout
        path = f"/v1/nodes/{status['node_id']}/admission"
        assert running.call("PUT", path, {"admission": "approved"}, running.operator_token())[0] == 200
        until(lambda: agent.status()["warnings"] == [], "approved")
        agent.wait_for_log("the registry gives this node work again")
        assert duxnet("doctor", "--state-dir", tmp_path / "agent").returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_an_agent_asleep_for_120_intervals_recovers_once(tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as running, an_agent(tmp_path, running) as agent:
        node_id = agent.wait_for_reports(2)["node_id"]
        since = first_index(running)
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(120 * INTERVAL)
        agent.process.send_signal(signal.SIGCONT)
        agent.wait_for_reports(8)
        assert liveness_events(running, node_id, since) == ["live-suspect", "suspect-down", "down-live"]


@pytest.mark.slow
def test_who_waits_for_a_disk_that_does_not_answer_is_told_that_the_coordinator_stops(tmp_path: Path) -> None:
    slow = (
        "import time\n"
        "from duxnet.coordinator.access.audit_log import AuditLog\n"
        "write = AuditLog.write_noted\n"
        "AuditLog.write_noted = lambda self: (self.mark() and self._noted[0].count(b'cordoned') and time.sleep(8), "
        "write(self))"
    )
    with Running(tmp_path / "state", spoiled_by=slow) as running:
        signer, waiting = Signer(running), Signer(running)
        assert signer.register()[0] == 200
        answers: dict[str, Any] = {}

        def order() -> None:
            body = {"reason": "looks odd"}
            path = f"/v1/nodes/{signer.node_id}/cordon"
            answers["order"] = running.call("PUT", path, body, running.operator_token())

        def register() -> None:
            try:
                answers["registration"] = waiting.register()
            except OSError:  # the connection ended without an answer
                answers["registration"] = None

        threads = [threading.Thread(target=target) for target in (order, register)]
        for thread in threads:
            thread.start()
            time.sleep(0.5)
        assert running.stop() == 0
        for thread in threads:
            thread.join()
        status, headers, body = answers["order"]
        assert (status, body["type"], headers["retry-after"]) == (503, "urn:duxnet:problem:busy", "5")
        status, _, body = answers["registration"]
        assert (status, body["type"]) == (503, "urn:duxnet:problem:busy")  # it is not registered
        assert "Traceback" not in running.output()
