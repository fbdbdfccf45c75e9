"""Signed registrations and sessions against a real coordinator: what is accepted, what is not, and what is told."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.errors import RefusedError, UnknownNodeError
from registry_core.identity.identity_files import ensure_identity
from registry_core.identity.keys import load_private_key, public_key_text, raw_public_key
from registry_core.identity.signatures import SignatureParameters, SignedRequest, sign_request
from registry_core.models.ids import node_id_of_key
from registry_core.models.node import Node
from registry_core.models.status import Liveness
from registry_core.remote import RemoteOptions, RemoteRegistry
from registry_core.wire.shapes import Gap, GaugeSummaries, GaugeSummary
from tests.support.coordinators import Running

INTERVAL = 1.0


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("coordinator") / "state", shortest_interval_seconds=INTERVAL)
    with running:
        yield running


def a_remote(running: Running, state_dir: Path, **options: Any) -> RemoteRegistry:
    chosen = RemoteOptions(interval_seconds=options.pop("interval_seconds", INTERVAL), **options)
    return RemoteRegistry(running.address, state_dir=state_dir, options=chosen)


def own_node(state_dir: Path, ip_address: str = "127.0.0.1", **fields: Any) -> Node:
    identity = ensure_identity(state_dir)
    return Node(ip_address, id=identity.id, public_key=identity.public_key, **fields)


class Signer:
    """Makes registrations by hand, so that a test can spoil them."""

    def __init__(self, running: Running, coordinator: Any = None) -> None:
        self.running = running
        self.key = Ed25519PrivateKey.generate()
        self.public_key = public_key_text(self.key.public_key())
        self.node_id = node_id_of_key(raw_public_key(self.key.public_key()))
        self.coordinator = coordinator or running.call("GET", "/v1/coordinator")[2]

    def body(self, generation: int = 1, node: Any = None, **said: Any) -> bytes:
        plain = {"ip_address": "127.0.0.1", "id": self.node_id, "public_key": self.public_key, **(node or {})}
        return msgspec.json.encode({"node": plain, "generation": generation, **said})

    def headers(self, body: bytes, *, created: float = 0, path: str = "", audience: str = "", nonce: str = "") -> Any:
        now = int(created or time.time())
        signed = SignedRequest(
            "PUT",
            path or f"/v1/nodes/{self.node_id}",
            "",
            "application/json",
            audience or self.coordinator["id"],
            body,
        )
        parameters = SignatureParameters(now, now + 60, nonce or secrets.token_urlsafe(12), self.public_key)
        return sign_request(signed, parameters, self.key)

    def send(self, body: bytes, headers: Any) -> tuple[int, dict[str, str], Any]:
        return self.running.call("PUT", f"/v1/nodes/{self.node_id}", raw=body, headers=headers)

    def register(self, generation: int = 1, **said: Any) -> tuple[int, dict[str, str], Any]:
        body = self.body(generation, **said)
        return self.send(body, self.headers(body))


def kind(answer: tuple[int, dict[str, str], Any]) -> str:
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json", answer
    assert body["status"] == status
    return str(body["type"]).rpartition(":")[2]


def test_a_node_registers_itself_and_reports(coordinator: Running, tmp_path: Path) -> None:
    with a_remote(coordinator, tmp_path) as remote:
        node = own_node(tmp_path, hostname="first", ip_address="192.0.2.7")
        assert remote.register_node(node) == node.id
        assert remote.requested_interval_seconds == INTERVAL
        health = remote.update_node_health(node.id, 0.5, 20.0, 30.0)
        assert health.memory_usage == 20.0
        shown = coordinator.call("GET", f"/v1/nodes/{node.id}")[2]
        assert shown["hostname"] == "first"
        assert "ip_address" not in shown  # the reader has no token
        assert "addresses" not in shown
        trusted = coordinator.call("GET", f"/v1/nodes/{node.id}", token=coordinator.operator_token())[2]
        assert trusted["ip_address"] == "192.0.2.7"


def test_a_gap_is_told_once(coordinator: Running, tmp_path: Path) -> None:
    with a_remote(coordinator, tmp_path) as remote:
        node = own_node(tmp_path)
        remote.register_node(node)
        summary = GaugeSummary(0.1, 0.2, 0.3)
        gap = Gap("2026-01-31T12:00:00.000Z", "2026-01-31T12:10:00.000Z", 40, "unreachable", GaugeSummaries(summary))
        remote.report_gap(msgspec.to_builtins(gap))
        remote.update_node_health(node.id, 0.5, 20.0, 30.0)
        shown = coordinator.call("GET", f"/v1/nodes/{node.id}")[2]["last_gap"]
        assert shown["from"] == "2026-01-31T12:00:00.000Z"
        assert (shown["samples"], shown["gauges"]["load_average"]["max"]) == (40, 0.3)


def test_a_session_survives_neither_a_later_registration_nor_another_node(coordinator: Running) -> None:
    signer, other = Signer(coordinator), Signer(coordinator)
    first = signer.register(1)[2]["session"]
    second = signer.register(2)[2]["session"]
    beat = f"/v1/nodes/{signer.node_id}/heartbeat"
    assert kind(coordinator.call("PUT", beat, {"sequence": 1}, first)) == "session-expired"
    assert coordinator.call("PUT", beat, {"sequence": 1}, second)[0] == 200
    other_session = other.register(1)[2]["session"]
    assert kind(coordinator.call("PUT", beat, {"sequence": 9}, other_session)) == "not-allowed"
    forged = second.rpartition("~")[0] + "~" + "A" * 22
    assert kind(coordinator.call("PUT", beat, {"sequence": 9}, forged)) == "session-expired"
    assert kind(coordinator.call("PUT", beat, {"sequence": 9})) == "token-required"


def test_a_session_speaks_as_bearer_only(coordinator: Running) -> None:
    signer = Signer(coordinator)
    session = signer.register()[2]["session"]
    path = f"/v1/nodes/{signer.node_id}"
    for method, place in (("POST", "/leave"), ("PUT", "/heartbeat"), ("DELETE", "")):
        for scheme in ("Basic", "Digest", "Token"):
            body = {"sequence": 1} if method == "PUT" else None
            sent = {"Authorization": f"{scheme} {session}"}
            assert kind(coordinator.call(method, path + place, body, headers=sent)) == "token-required"
    assert coordinator.call("POST", f"{path}/leave", token=session)[0] == 200


def test_a_heartbeat_that_is_repeated_gets_the_same_answer_and_an_older_one_is_refused(coordinator: Running) -> None:
    signer = Signer(coordinator)
    session = signer.register()[2]["session"]
    beat = f"/v1/nodes/{signer.node_id}/heartbeat"
    first = coordinator.call("PUT", beat, {"sequence": 5, "load_average": 1.0}, session)
    again = coordinator.call("PUT", beat, {"sequence": 5, "load_average": 2.0}, session)
    assert first[0] == 200
    assert again[2] == first[2]
    assert kind(coordinator.call("PUT", beat, {"sequence": 4}, session)) == "stale-sequence"


def test_a_node_that_beats_too_often_is_slowed_down(coordinator: Running) -> None:
    signer = Signer(coordinator)
    session = signer.register()[2]["session"]
    beat = f"/v1/nodes/{signer.node_id}/heartbeat"
    answers = [coordinator.call("PUT", beat, {"sequence": number}, session) for number in range(1, 12)]
    slowed = [answer for answer in answers if answer[0] == 429]
    assert slowed
    assert int(slowed[0][1]["retry-after"]) >= 1


def test_a_generation_must_rise_and_the_same_words_get_the_same_answer(coordinator: Running) -> None:
    signer = Signer(coordinator)
    body = signer.body(5)
    first = signer.send(body, signer.headers(body))
    again = signer.send(body, signer.headers(body, nonce="another"))
    assert (first[0], again[0]) == (200, 200)
    assert again[2]["generation"] == 5
    for stale in (signer.register(5, node={"hostname": "other"}), signer.register(4)):
        assert kind(stale) == "stale-generation"
        assert stale[2]["current_generation"] == 5


def test_a_removed_node_s_old_registration_cannot_be_replayed(coordinator: Running) -> None:
    signer = Signer(coordinator)
    body = signer.body(3)
    headers = signer.headers(body)
    session = signer.send(body, headers)[2]["session"]
    assert coordinator.call("DELETE", f"/v1/nodes/{signer.node_id}", token=session)[0] == 204
    assert kind(signer.send(body, headers)) == "stale-generation"
    assert signer.register(4)[0] == 200


def test_a_request_that_was_changed_or_meant_for_another_is_refused(coordinator: Running) -> None:
    signer, victim = Signer(coordinator), Signer(coordinator)
    body = signer.body()
    good = signer.headers(body)
    assert kind(signer.send(body + b" ", good)) == "bad-signature"
    assert kind(signer.send(body, signer.headers(body, audience="c1another"))) == "bad-signature"
    assert kind(signer.send(body, {})) == "bad-signature"
    path = f"/v1/nodes/{victim.node_id}"
    assert kind(coordinator.call("PUT", path, raw=body, headers=good)) in ("bad-signature", "invalid")
    as_victim = signer.body(node={"id": victim.node_id})
    headers = signer.headers(as_victim, path=path)
    assert kind(coordinator.call("PUT", path, raw=as_victim, headers=headers)) == "invalid"
    with_his_key = signer.body(node={"id": victim.node_id, "public_key": victim.public_key})
    headers = signer.headers(with_his_key, path=path)
    assert kind(coordinator.call("PUT", path, raw=with_his_key, headers=headers)) == "bad-signature"
    assert coordinator.call("GET", path)[0] == 404


@pytest.mark.parametrize("wrong", [3600.0, -3600.0])
def test_a_clock_that_is_an_hour_off_is_told_a_nonce_and_gets_in(
    coordinator: Running, tmp_path: Path, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(coordinator)
    body = signer.body()
    refused = signer.send(body, signer.headers(body, created=time.time() + wrong))
    assert kind(refused) == "signature-time"
    nonce = refused[1]["accept-signature"].partition('nonce="')[2].partition('"')[0]
    assert signer.send(body, signer.headers(body, created=time.time() + wrong, nonce=nonce))[0] == 200
    other = Signer(coordinator)
    stolen = other.body()
    assert kind(other.send(stolen, other.headers(stolen, created=time.time() + wrong, nonce=nonce))) == "signature-time"
    with a_remote(coordinator, tmp_path) as remote:  # and the client does so by itself
        assert remote._registrar is not None
        remote._registrar._wall = lambda: time.time() + wrong
        node = own_node(tmp_path)
        remote.register_node(node)
        assert remote.update_node_health(node.id, 1.0).load_average == 1.0


def test_a_node_cannot_write_what_belongs_to_the_registry(coordinator: Running) -> None:
    signer = Signer(coordinator)
    forged = {"admission": "approved", "reputation": 5.0, "scheduling": "eligible", "liveness": "live"}
    session = signer.register(1, node=forged)[2]["session"]
    shown = coordinator.call("GET", f"/v1/nodes/{signer.node_id}")[2]
    assert (shown["admission"], shown["reputation"]) == ("probation", 0.25)
    path = f"/v1/nodes/{signer.node_id}"
    for token in (session, ""):
        assert coordinator.call("PUT", f"{path}/admission", {"admission": "approved"}, token)[0] == 401
        assert coordinator.call("DELETE", f"{path}/cordon", token=token)[0] == 401
        assert coordinator.call("POST", f"{path}/outcomes", {"success": True}, token)[0] == 401
    assert coordinator.call("GET", path)[2]["admission"] == "probation"


def test_a_copy_of_a_live_node_is_refused_without_the_holder_s_address(coordinator: Running, tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    node = own_node(original)
    with a_remote(coordinator, original, machine_hint="machine-1", boot_id="b1") as holder:
        holder.register_node(node)
        shutil.copytree(original, copy)
        with a_remote(coordinator, copy, machine_hint="machine-2", boot_id="b2") as second:
            with pytest.raises(RefusedError, match=r"node\.key") as refused:
                second.register_node(node)
            assert refused.value.code == "duplicate-identity"
            assert "127.0.0.1" not in str(refused.value)
        assert holder.update_node_health(node.id, 1.0).load_average == 1.0  # the holder keeps it
        coordinator.call("POST", f"/v1/nodes/{node.id}/leave", raw=b"", token=holder._session.token)  # type: ignore[union-attr]  # it has one
        with a_remote(coordinator, copy, machine_hint="machine-2", boot_id="b2") as second:
            second.register_node(node)  # the holder has gone: it moves
        with pytest.raises(RefusedError, match=r"[Aa]nother machine"):
            holder.update_node_health(node.id, 1.0)  # its session has ended, and the other holds it now


def test_a_reboot_takes_over_at_once_and_ends_the_session_before(coordinator: Running, tmp_path: Path) -> None:
    node = own_node(tmp_path)
    with a_remote(coordinator, tmp_path, machine_hint="machine-1", boot_id="b1") as before:
        before.register_node(node)
        token = before._session.token  # type: ignore[union-attr]  # it has one
        with a_remote(coordinator, tmp_path, machine_hint="machine-1", boot_id="b2") as after:
            after.register_node(node)
            beat = f"/v1/nodes/{node.id}/heartbeat"
            assert kind(coordinator.call("PUT", beat, {"sequence": 50}, token)) == "session-expired"
            assert after.update_node_health(node.id, 1.0).load_average == 1.0


def test_two_boots_that_take_turns_are_flagged(coordinator: Running) -> None:
    signer = Signer(coordinator)
    for generation in range(1, 7):
        signer.register(generation, machine_hint="m", boot_id=f"b{generation % 2}")
    shown = coordinator.call("GET", f"/v1/nodes/{signer.node_id}")[2]
    assert shown["scheduling"] == "cordoned"
    assert "copy" in shown["cordon"]["reason"]
    assert not shown["is_ready"]


def test_a_node_whose_key_was_replaced_keeps_its_id_and_the_old_key_is_void(coordinator: Running) -> None:
    from dataclasses import asdict

    from registry_core.identity.succession import succeed

    signer = Signer(coordinator)
    assert signer.register(1)[0] == 200
    first_text, old = signer.public_key, signer.key
    signer.key = Ed25519PrivateKey.generate()
    signer.public_key = public_key_text(signer.key.public_key())
    link = asdict(succeed(signer.node_id, old, signer.key))
    answer = signer.register(2, first_public_key=first_text, succession=[link])
    assert answer[0] == 200, answer
    assert coordinator.call("GET", f"/v1/nodes/{signer.node_id}")[2]["public_key"] == signer.public_key
    signer.key, signer.public_key = old, first_text
    assert kind(signer.register(3)) == "bad-signature"
    thief = Ed25519PrivateKey.generate()
    fork = asdict(succeed(signer.node_id, old, thief))
    signer.key, signer.public_key = thief, public_key_text(thief.public_key())
    assert kind(signer.register(4, first_public_key=first_text, succession=[fork])) == "bad-signature"
    shown = coordinator.call("GET", f"/v1/nodes/{signer.node_id}")[2]
    assert shown["public_key"] == link["new_key"]
    path, token = f"/v1/nodes/{signer.node_id}", coordinator.operator_token()
    assert coordinator.call("DELETE", path, token=token)[0] == 204
    assert kind(signer.register(5, first_public_key=first_text, succession=[fork])) == "bad-signature"
    plain = {"id": signer.node_id, "ip_address": "127.0.0.1"}
    assert coordinator.call("PUT", path, {"node": plain}, token)[0] in (200, 201)
    assert kind(signer.register(6, first_public_key=first_text, succession=[fork])) == "bad-signature"


@pytest.mark.parametrize("text", ["é" * 44, "", "A" * 44, "\x00"])
@pytest.mark.parametrize("field", ["node_id", "old_key", "new_key", "old_signature", "new_signature"])
def test_a_record_of_a_replaced_key_that_is_nonsense_is_refused(coordinator: Running, field: str, text: str) -> None:
    from dataclasses import asdict

    from registry_core.identity.succession import succeed

    signer = Signer(coordinator)
    first_text, old = signer.public_key, signer.key
    signer.key = Ed25519PrivateKey.generate()
    signer.public_key = public_key_text(signer.key.public_key())
    link = {**asdict(succeed(signer.node_id, old, signer.key)), field: text}
    assert kind(signer.register(1, first_public_key=first_text, succession=[link])) == "invalid"


def test_a_backup_of_the_state_directory_catches_up_with_the_generation(coordinator: Running, tmp_path: Path) -> None:
    state = tmp_path / "state"
    node = own_node(state)
    with a_remote(coordinator, state) as remote:
        remote.register_node(node)
        backup = (state / "remote.json").read_bytes()
        for _ in range(3):
            remote.register_node(node)
    (state / "remote.json").write_bytes(backup)
    with a_remote(coordinator, state) as remote:
        remote.register_node(node)
        assert remote.update_node_health(node.id, 1.0).load_average == 1.0


def test_another_coordinator_at_the_pinned_address_is_refused(coordinator: Running, tmp_path: Path) -> None:
    state = tmp_path / "node"
    node = own_node(state)
    with a_remote(coordinator, state) as remote:
        remote.register_node(node)
    with Running(tmp_path / "other") as impostor, a_remote(impostor, state) as remote:
        with pytest.raises(RefusedError) as refused:
            remote.register_node(node)
        assert refused.value.code == "wrong-coordinator"
        assert impostor.call("GET", f"/v1/nodes/{node.id}")[0] == 404


def test_sessions_and_nodes_survive_a_kill_of_the_coordinator(tmp_path: Path) -> None:
    running = Running(tmp_path / "state", shortest_interval_seconds=INTERVAL).start()
    node = own_node(tmp_path / "node")
    with a_remote(running, tmp_path / "node") as remote:
        remote.register_node(node)
        remote.update_node_health(node.id, 1.0)
        running.kill()
        with running:
            assert remote.update_node_health(node.id, 2.0).load_average == 2.0
            assert remote._session is not None
            assert remote._session.generation == 1  # the session went on: no second registration
            found = remote.get_node(node.id)
            assert found is not None
            assert found.liveness is Liveness.LIVE


def test_a_node_that_was_forgotten_registers_again(coordinator: Running, tmp_path: Path) -> None:
    node = own_node(tmp_path)
    with a_remote(coordinator, tmp_path) as remote:
        remote.register_node(node)
        coordinator.call("DELETE", f"/v1/nodes/{node.id}", token=coordinator.operator_token())
        with pytest.raises(UnknownNodeError):
            remote.update_node_health(node.id, 1.0)
        remote.register_node(node)
        assert remote.update_node_health(node.id, 1.0).load_average == 1.0


def test_the_key_file_of_another_node_is_noticed(coordinator: Running, tmp_path: Path) -> None:
    from registry_core.errors import DamagedStoreError

    ensure_identity(tmp_path / "a")
    ensure_identity(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "node.key", tmp_path / "b" / "node.key")
    load_private_key(tmp_path / "b" / "node.key")
    with pytest.raises(DamagedStoreError, match=r"does not match node\.id"):
        a_remote(coordinator, tmp_path / "b")


def test_after_the_last_generation_a_node_begins_anew(coordinator: Running, tmp_path: Path) -> None:
    """A forged refusal may have led it there, or it was removed since."""
    last = 2**53 - 1
    node = own_node(tmp_path)

    def generation() -> int:
        return int(json.loads((tmp_path / "remote.json").read_bytes())["generation"])

    def set_generation(number: int) -> None:
        kept = json.loads((tmp_path / "remote.json").read_bytes())
        (tmp_path / "remote.json").write_text(json.dumps({**kept, "generation": number}))

    with a_remote(coordinator, tmp_path) as remote:
        remote.register_node(node)
    set_generation(last - 1)
    with a_remote(coordinator, tmp_path) as remote:
        for expected in (last, 1, 2):
            remote.register_node(node)
            assert generation() == expected
            assert remote.update_node_health(node.id, 1.0).load_average == 1.0
    set_generation(last - 1)
    with a_remote(coordinator, tmp_path) as remote:
        remote.register_node(node)
        assert remote.deregister_node(node.id)
        remote.register_node(node)
        assert generation() == 1


def test_the_largest_records_fit_the_bound_of_a_page(coordinator: Running) -> None:
    tags = {f"k{number}": "v" * 250 for number in range(59)}
    options = RemoteOptions(token=coordinator.operator_token())
    with RemoteRegistry(coordinator.address, options=options) as operator:
        for number in range(3):
            operator.register_node(Node("127.0.0.1", id=f"fat-{number}", tags=tags))
        found = operator.list_nodes(tags={"k1": tags["k1"]}, limit=3)
        assert [len(node.tags) for node in found] == [59, 59, 59]
        for node in found:
            assert operator.get_node(node.id) is not None
            operator.deregister_node(node.id)
