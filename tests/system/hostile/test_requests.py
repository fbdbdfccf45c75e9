"""Requests that another program could take for something else, and sessions whose node was shut out meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.running import until
from tests.coordinator.running import Running
from tests.coordinator.test_admission import token
from tests.coordinator.test_hostile import problem, spoken
from tests.coordinator.test_identity import Signer, kind

ROUTES = ("GET /v1/count", "GET /metrics", "PUT /v1/nodes/a", "PUT /v1/nodes/a/heartbeat", "POST /v1/nodes/a/outcomes")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("requests") / "state") as coordinator:
        yield coordinator


def raw(line: str, *headers: str) -> bytes:
    body = "" if line.startswith("GET") else "{}"
    own = ["Host: localhost", "Connection: close", "Content-Type: application/json"] if body else ["Host: localhost"]
    lengths = [f"Content-Length: {len(body)}"] if body else ["Connection: close"]
    return "\r\n".join([f"{line} HTTP/1.1", *own, *lengths, *headers, "", body]).encode()


@pytest.mark.parametrize("line", ROUTES)
def test_nothing_but_100_continue_can_be_expected(running: Running, line: str) -> None:
    for odd in ("200-maybe", "100-continue, x", ""):
        assert problem(spoken(running, raw(line, f"Expect: {odd}"))) == (417, "expectation-failed"), odd


@pytest.mark.parametrize("line", [line for line in ROUTES if not line.startswith("GET")])
def test_a_body_that_is_compressed_is_refused_and_not_taken_as_it_comes(running: Running, line: str) -> None:
    for coding in ("gzip", "br", "gzip, identity", "x"):
        answer = spoken(running, raw(line, f"Content-Encoding: {coding}"))
        assert problem(answer) == (415, "wrong-content-type"), coding
    assert b" 415 " not in spoken(running, raw(line, "Content-Encoding: identity"))


@pytest.mark.parametrize("line", ROUTES)
def test_other_versions_and_fragments_are_malformed(running: Running, line: str) -> None:
    plain = raw(line)
    for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2"):
        assert problem(spoken(running, plain.replace(b"HTTP/1.1", version))) == (400, "malformed"), version
    for fragment in (b"#", b"#x", b"?a#x"):
        assert problem(spoken(running, plain.replace(b" HTTP/1.1", fragment + b" HTTP/1.1"))) == (400, "malformed")


@pytest.mark.parametrize("line", ROUTES)
def test_a_header_that_has_one_value_must_not_come_twice(running: Running, line: str) -> None:
    for header in ("Authorization: Bearer x", "Origin: http://localhost", "Content-Type: application/json"):
        if header.startswith("Content-Type") and line.startswith("GET"):
            continue  # there is no content
        assert problem(spoken(running, raw(line, header, header))) == (400, "malformed"), header


def test_a_ban_that_comes_by_no_route_ends_the_session(tmp_path: Path) -> None:
    """As when the rules suspend for the fourth time, or a host calls `registry.admin.ban`."""
    ban = (
        "import duxnet.coordinator.background as b\n"
        "run = b.BackgroundLoop.pulse\n"
        "import os\n"
        "async def pulse(self, **named):\n"
        "    registry = self._coordinator.registry\n"
        "    flag = os.environ['BAN_FLAG']\n"
        "    if os.path.exists(flag):\n"
        "        node_id = open(flag).read(); os.remove(flag)\n"
        "        registry.admin.ban(node_id, reason='no route')\n"
        "    await run(self, **named)\n"
        "b.BackgroundLoop.pulse = pulse\n"
    )
    flag = tmp_path / "flag"
    spoiled = f"import os; os.environ['BAN_FLAG'] = {str(flag)!r}\n{ban}"
    with Running(tmp_path / "state", spoiled_by=spoiled, shortest_interval_seconds=0.1) as running:
        signer = Signer(running)
        session = signer.register(1)[2]["session"]
        path = f"/v1/nodes/{signer.node_id}/heartbeat"
        assert running.call("PUT", path, {"sequence": 1}, session)[0] == 200
        flag.write_text(signer.node_id)
        sequence = iter(range(2, 10_000))
        until(lambda: running.call("PUT", path, {"sequence": next(sequence)}, session)[0] == 403, "refused")
        assert kind(running.call("PUT", path, {"sequence": next(sequence)}, session)) == "banned"


def test_a_recorded_registration_gives_nobody_a_session(running: Running) -> None:
    signer = Signer(running)
    body = signer.body(1)
    headers = signer.headers(body)
    assert signer.send(body, headers)[0] == 200
    for _ in range(2):
        replayed = signer.send(body, headers)
        assert kind(replayed) == "stale-generation"
        assert "session" not in replayed[2]
    status, _, reply = signer.send(body, signer.headers(body))  # the node itself, whose answer was lost
    assert status == 200
    operator = running.operator_token()
    path = f"/v1/nodes/{signer.node_id}"
    assert running.call("PUT", f"{path}/admission", {"admission": "approved"}, operator)[0] == 200
    assert kind(signer.send(body, headers)) == "stale-generation"
    assert running.call("DELETE", path, token=reply["session"])[0] == 204
    assert kind(signer.send(body, headers)) == "stale-generation"  # nor is the node brought back


def test_no_node_keeps_a_rater_from_telling_its_faults(running: Running) -> None:
    signer, wallet = Signer(running), "0x" + "ab" * 20
    rater = token(running, "rater", "--wallet", wallet)
    signer.register(1, node={"wallet_address": wallet})
    path = f"/v1/nodes/{signer.node_id}/outcomes"
    assert running.call("POST", path, {"success": False}, rater)[0] == 200
    assert kind(running.call("POST", path, {"success": True}, rater)) == "not-allowed"
