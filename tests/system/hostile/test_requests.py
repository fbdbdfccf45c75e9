"""Requests that another program could take for something else, and sessions whose node was shut out meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.background import BackgroundLoop
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.identity.tokens import SessionToken, seal_session
from registry_core.models.node import Node
from registry_core.wire.shapes import Heartbeat
from tests.support.coordinators import Running
from tests.system.coordinator.test_admission import token
from tests.system.coordinator.test_hostile import problem, spoken
from tests.system.coordinator.test_identity import Signer, kind

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


def test_a_ban_that_comes_by_no_route_ends_the_session_at_once(tmp_path: Path) -> None:
    """As when the rules suspend for the fourth time, or a host calls `registry.admin.ban`."""
    settings = CoordinatorSettings(state_dir=str(tmp_path))
    coordinator = open_coordinator(settings)
    try:
        node = Node("192.0.2.1", id="a")
        coordinator.registry.host.register(node, interval_seconds=15.0, state={"generation": 1})
        coordinator.sessions.begin("a", 1, "proof")
        token = SessionToken("a", 1, int(time.time()) + 3600)
        bearer = f"Bearer {seal_session(token, coordinator.identity.secret)}"
        assert coordinator.beat(bearer, "a", Heartbeat(sequence=1))
        loop = BackgroundLoop(coordinator)
        coordinator.registry.admin.ban("a", reason="cheats", actor="host")
        for _ in range(2):
            with pytest.raises(Refused, match="cheats") as refused:
                coordinator.beat(bearer, "a", Heartbeat(sequence=2))
            assert refused.value.kind == "banned"
        assert loop.pulse() is None
        with pytest.raises(Refused, match="cheats"):  # for leaving and removing itself, too
            coordinator.speaks_for(bearer, "a")
    finally:
        coordinator.close()


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
