"""What a node believes of an answer to its registration: what the coordinator has signed for this very request."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import httpx
import msgspec
import pytest

from registry_core.errors import RefusedError, RegistryError, UnreachableError
from registry_core.remote import RemoteOptions, RemoteRegistry
from registry_core.wire.problems import KINDS, PROBLEM_MEDIA_TYPE, Problem, problem_type
from registry_core.wire.shapes import PROTOCOL
from tests.support.coordinators import Running
from tests.support.requirements import need_program
from tests.system.coordinator.test_identity import Signer, kind, own_node

Changed = Callable[[httpx.Request, httpx.Response], httpx.Response]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("coordinator") / "state") as running:
        yield running


class Between(httpx.BaseTransport):
    """Somebody on the way, who passes requests on and changes answers while `changed` is set. Keeps what it saw."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.changed: Optional[Changed] = None
        self.seen: list[tuple[httpx.Request, httpx.Response]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        answer = _with_body(response, response.read())
        response.close()
        self.seen.append((request, answer))
        return answer if self.changed is None else self.changed(request, answer)

    def close(self) -> None:
        self.inner.close()


def _with_body(answer: httpx.Response, body: bytes) -> httpx.Response:
    kept = [(name, value) for name, value in answer.headers.items() if name != "content-length"]
    return httpx.Response(answer.status_code, headers=kept, content=body)


def a_problem(name: str, **more: Any) -> httpx.Response:
    known = KINDS[name]
    problem = Problem(problem_type(name), known.title, known.status, "because", known.remedy, **more)
    return httpx.Response(
        known.status, headers={"content-type": PROBLEM_MEDIA_TYPE}, content=msgspec.json.encode(problem)
    )


def a_remote(running: Running, state_dir: Path, between: Between) -> RemoteRegistry:
    options = RemoteOptions(interval_seconds=5.0)
    return RemoteRegistry(running.address, state_dir=state_dir, options=options, transport=between)


def generation_in(state_dir: Path) -> int:
    found: int = json.loads((state_dir / "remote.json").read_text())["generation"]
    return found


@pytest.mark.parametrize(
    "changed",
    [
        lambda _, answer: _with_body(answer, answer.content.replace(b'"probation"', b'"approved"')),
        lambda _, answer: httpx.Response(201, headers=answer.headers, content=answer.content),
        lambda _, answer: httpx.Response(200, headers={"content-type": "application/json"}, content=answer.content),
    ],
    ids=["body", "status", "unsigned"],
)
def test_a_reply_that_was_changed_on_its_way_is_refused(coordinator: Running, tmp_path: Path, changed: Changed) -> None:
    between = Between()
    with a_remote(coordinator, tmp_path, between) as remote:
        between.changed = lambda request, answer: changed(request, answer) if request.method == "PUT" else answer
        with pytest.raises(RefusedError, match="is not signed by the coordinator c1"):
            remote.register_node(own_node(tmp_path))
        between.changed = None
        remote.register_node(own_node(tmp_path))


def test_a_reply_to_an_earlier_registration_is_refused(coordinator: Running, tmp_path: Path) -> None:
    between = Between()
    with a_remote(coordinator, tmp_path, between) as remote:
        remote.register_node(own_node(tmp_path))
        earlier = between.seen[-1][1]
        between.changed = lambda request, answer: earlier if request.method == "PUT" else answer
        with pytest.raises(RefusedError, match="does not belong to this answer, this request"):
            remote.register_node(own_node(tmp_path, hostname="other"))


@pytest.mark.parametrize(
    "name", ["banned", "bad-signature", "duplicate-identity", "join-token", "not-allowed", "protocol"]
)
def test_a_refusal_that_the_coordinator_did_not_sign_is_not_believed(
    coordinator: Running, tmp_path: Path, name: str
) -> None:
    between = Between()
    with a_remote(coordinator, tmp_path, between) as remote:
        between.changed = lambda request, answer: a_problem(name) if request.method == "PUT" else answer
        with pytest.raises(UnreachableError, match=r"without the coordinator's signature: .*because"):
            remote.register_node(own_node(tmp_path))
        between.changed = None
        remote.register_node(own_node(tmp_path))  # it tries again, and is taken


def test_a_generation_that_the_coordinator_did_not_sign_is_not_taken_over(coordinator: Running, tmp_path: Path) -> None:
    between = Between()
    with a_remote(coordinator, tmp_path, between) as remote:
        node = own_node(tmp_path)
        remote.register_node(node)
        forged = a_problem("stale-generation", current_generation=2**52)
        between.changed = lambda *_: _with_body(forged, forged.content)
        with pytest.raises(UnreachableError, match="without the coordinator's signature"):
            remote.register_node(node)
        assert generation_in(tmp_path) == 2
        between.changed = None
        remote.register_node(node)
        assert generation_in(tmp_path) == 3


def test_a_signed_refusal_to_an_earlier_request_is_not_believed(coordinator: Running, tmp_path: Path) -> None:
    between = Between()
    node = own_node(tmp_path)
    with a_remote(coordinator, tmp_path, between) as remote:
        remote.register_node(node)
        backup = (tmp_path / "remote.json").read_bytes()
        for _ in range(3):
            remote.register_node(node)
    (tmp_path / "remote.json").write_bytes(backup)
    with a_remote(coordinator, tmp_path, between) as remote:
        between.seen.clear()
        remote.register_node(node)  # the refusal is signed: it catches up
        assert generation_in(tmp_path) == 5
        refusal = next(answer for _, answer in between.seen if answer.status_code == 409)
        between.changed = lambda *_: _with_body(refusal, refusal.content)
        with pytest.raises(UnreachableError, match="without the coordinator's signature"):
            remote.register_node(node)
        assert generation_in(tmp_path) == 6


@pytest.mark.parametrize("name", ["banned", "not-allowed", "session-expired", "stale-sequence"])
def test_what_is_refused_to_a_heartbeat_shows_in_a_registration(
    coordinator: Running, tmp_path: Path, name: str
) -> None:
    """Heartbeats are not signed, nor are their answers."""
    between = Between()
    with a_remote(coordinator, tmp_path, between) as remote:
        node = own_node(tmp_path)
        remote.register_node(node)

        def once(request: httpx.Request, _answer: httpx.Response) -> httpx.Response:
            between.changed = None
            return a_problem(name)

        between.changed = once
        assert remote.update_node_health(node.id, 1.0).load_average == 1.0
        coordinator.call(
            "PUT",
            f"/v1/nodes/{node.id}/admission",
            {"admission": "banned", "reason": "no"},
            coordinator.operator_token(),
        )
        with pytest.raises(RefusedError, match="excluded") as refused:
            remote.update_node_health(node.id, 1.0)
        assert refused.value.code == "banned"


# Other protocols.


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (
            PROTOCOL + 3,
            f"this coordinator speaks protocol {PROTOCOL}, the node {PROTOCOL + 3}: upgrade the coordinator",
        ),
        (
            PROTOCOL + 1,
            f"this coordinator speaks protocol {PROTOCOL}, the node {PROTOCOL + 1}: upgrade the coordinator",
        ),
        (PROTOCOL - 2, f"this coordinator speaks protocol {PROTOCOL}, the node {PROTOCOL - 2}: upgrade the node"),
    ],
)
def test_a_node_of_another_protocol_is_named_as_such(coordinator: Running, protocol: int, words: str) -> None:
    signer = Signer(coordinator)
    answer = signer.register(1, protocol=protocol)
    assert kind(answer) == "protocol"
    assert answer[2]["detail"] == words
    assert "signature" in answer[1]
    body = msgspec.json.encode({"description": "a registration of another form", "protocol": protocol})
    assert kind(signer.send(body, signer.headers(body))) == "protocol"
    assert kind(signer.send(body, {})) == "protocol"  # nor does it matter how it is signed


@pytest.mark.parametrize("protocol", [None, PROTOCOL - 1, PROTOCOL])
def test_a_node_of_this_protocol_or_the_one_before_it_is_taken(coordinator: Running, protocol: Optional[int]) -> None:
    said = {} if protocol is None else {"protocol": protocol}
    status, headers, body = Signer(coordinator).register(1, **said)
    assert (status, body["protocol"]) == (200, protocol or 1)
    assert "signature" in headers
    assert ("duxnet-signature" in headers) == (body["protocol"] == 1)


def test_an_older_coordinator_is_named_as_such_before_anything_is_sent(coordinator: Running, tmp_path: Path) -> None:
    between = Between()

    def older(_: httpx.Request, answer: httpx.Response) -> httpx.Response:
        plain = json.loads(answer.content)
        del plain["protocol"]
        return _with_body(answer, json.dumps(plain).encode())

    between.changed = older
    with a_remote(coordinator, tmp_path, between) as remote:
        with pytest.raises(RefusedError, match=f"speaks protocol 1, this node {PROTOCOL}: upgrade the coordinator"):
            remote.register_node(own_node(tmp_path))
        assert [request.method for request, _ in between.seen] == ["GET"]


def test_a_coordinator_that_went_back_to_an_older_version_is_named_as_such(
    coordinator: Running, tmp_path: Path
) -> None:
    between = Between()

    def older(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        plain = json.loads(answer.content)
        del plain["protocol"]
        return httpx.Response(answer.status_code, headers={"content-type": "application/json"}, json=plain)

    with a_remote(coordinator, tmp_path, between) as remote:
        remote.register_node(own_node(tmp_path))
        between.changed = older
        with pytest.raises(RefusedError, match="speaks protocol 1"):
            remote.register_node(own_node(tmp_path))


# Another implementation.


def node_modules() -> str:
    """Where npm has put `http-message-signatures`; skips where it is not."""
    found = os.environ.get("DUXNET_TEST_NODE_MODULES", "")
    if not found or not Path(found, "http-message-signatures").is_dir():
        pytest.skip("needs the npm package http-message-signatures in DUXNET_TEST_NODE_MODULES")
    return found


def test_every_answer_to_a_node_verifies_under_another_implementation(coordinator: Running, tmp_path: Path) -> None:
    """`http-message-signatures` of npm, which knows `;req`, takes each of them, and none of them once it is changed."""
    node_program, modules = need_program("node", "nodejs"), node_modules()
    between = Between()
    place = tmp_path / "node"
    with a_remote(coordinator, place, between) as remote:
        node = own_node(place)
        remote.register_node(node)
        backup = (place / "remote.json").read_bytes()
        remote.register_node(node)
        remote._registrar._wall = lambda: 1e9  # type: ignore[union-attr]  # it has one
        remote.register_node(node)
        (place / "remote.json").write_bytes(backup)
    with a_remote(coordinator, place, between) as remote:
        remote.register_node(node)
        coordinator.call(
            "PUT",
            f"/v1/nodes/{node.id}/admission",
            {"admission": "banned", "reason": "no"},
            coordinator.operator_token(),
        )
        with pytest.raises(RegistryError):
            remote.register_node(node)
    signed = [(request, answer) for request, answer in between.seen if request.method == "PUT"]
    assert [answer.status_code for _, answer in signed] == [200, 200, 401, 200, 409, 200, 403]
    statement = {
        "public_key": coordinator.call("GET", "/v1/coordinator")[2]["public_key"],
        "exchanges": [
            {
                "request": {"method": request.method, "url": str(request.url), "headers": dict(request.headers)},
                "answer": {"status": answer.status_code, "headers": dict(answer.headers)},
                "body": answer.text,
            }
            for request, answer in signed
        ],
    }
    script = Path(__file__).with_name("verify_answers.js")
    run = subprocess.run(
        [node_program, str(script)],
        input=json.dumps(statement),
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"verified": len(signed), "refused_when_changed": 4 * len(signed)}
