"""Changes that share a commit: whose failure it is, what is taken back, what the operator is told."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from duxnet.coordinator.admission.decision import RegistrationRequest
from duxnet.coordinator.admission.pipeline import Registered
from duxnet.coordinator.app import open_coordinator
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.errors import DamagedStoreError, StoreError
from registry_core.identity.signatures import SignatureRefused
from tests.coordinator.test_node_search import damage
from tests.system.coordinator.test_identity import Signer


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    opened = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path)))
    yield opened
    opened.close()


def a_signer(coordinator: Coordinator) -> Signer:
    return Signer(None, {"id": coordinator.identity.id})  # type: ignore[arg-type]  # nothing is sent


def request(
    signer: Signer, generation: int, proof: Optional[dict[str, str]] = None, **said: Any
) -> RegistrationRequest:
    body = signer.body(generation, **said)
    headers = {"content-type": "application/json", **(signer.headers(body) if proof is None else proof)}
    return RegistrationRequest(signer.node_id, f"/v1/nodes/{signer.node_id}", "", headers, body, "192.88.98.7")


def together(coordinator: Coordinator, changes: Sequence[Any]) -> list[Any]:
    """Requests and functions carried out in one commit: what each made, or its error."""

    async def all_made() -> list[Any]:
        held = threading.Event()
        before = asyncio.ensure_future(coordinator.commit_queue.run(lambda: held.wait(10)))
        await asyncio.sleep(0)  # its commit begins, and all others wait
        found = asyncio.gather(
            *(
                coordinator.register(change)
                if isinstance(change, RegistrationRequest)
                else coordinator.commit_queue.run(change)
                for change in changes
            ),
            return_exceptions=True,
        )
        await asyncio.sleep(0)  # they are queued
        held.set()
        await before
        return await found

    return asyncio.run(all_made())


def alone(coordinator: Coordinator, asked: RegistrationRequest) -> Any:
    """What a request made that no other shares a commit with, or its error."""

    async def made() -> Any:
        try:
            return await coordinator.register(asked)
        except Exception as error:  # noqa: BLE001 - the tests look at it
            return error

    return asyncio.run(made())


def generations(answers: Sequence[Any]) -> list[Any]:
    return [
        answer.generation if isinstance(answer, Registered) else getattr(answer, "kind", answer) for answer in answers
    ]


def _kind(error: Optional[BaseException]) -> str:
    return error.kind if isinstance(error, Refused) else repr(error)


def test_registrations_and_removals_of_one_node_in_one_commit_follow_each_other(coordinator: Coordinator) -> None:
    signer = a_signer(coordinator)

    def removed() -> bool:
        return coordinator._removed(signer.node_id, "test")

    first = request(signer, 5)
    answers = together(coordinator, [first, request(signer, 5), request(signer, 4), request(signer, 6), first])
    assert generations(answers) == [5, 5, "stale-generation", 6, "stale-generation"]
    answers = together(coordinator, [removed, request(signer, 6), request(signer, 7), removed, request(signer, 8)])
    assert generations(answers) == [True, "stale-generation", 7, True, 8]
    assert coordinator.registry.count_nodes() == 1
    assert generations(together(coordinator, [request(signer, 9), removed])) == [9, True]
    assert coordinator.registry.get_node(signer.node_id) is None
    removed_node = coordinator.registry.host.removed(signer.node_id)
    assert removed_node is not None
    assert removed_node.state == {"generation": 9}


def test_who_is_banned_in_the_same_commit_stays_out(coordinator: Coordinator) -> None:
    signer, admin = a_signer(coordinator), coordinator.registry.admin
    ban = [request(signer, 1), lambda: admin.ban(signer.node_id, reason="no", actor="a"), request(signer, 2)]
    assert generations(together(coordinator, ban)) == [1, None, "banned"]
    gone = [lambda: coordinator._removed(signer.node_id, "test"), request(signer, 3)]
    assert generations(together(coordinator, gone)) == [True, "banned"]


def test_quota_and_join_token_hold_within_one_commit(tmp_path: Path) -> None:
    opened = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path), join="token", nodes_per_address=1))
    opened.quotas.all_counted()
    try:
        (_, once), (_, often) = (opened.token_store.create("join", 0.0, uses=uses) for uses in (1, None))
        answers = together(opened, [request(a_signer(opened), 1, join_token=once) for _ in range(3)])
        assert generations(answers) == [1, "join-token", "join-token"]
        waits = request(a_signer(opened), 1, join_token=often)
        assert b'"admission_reason":"quota"' in together(opened, [waits])[0].body
        assert (tmp_path / "audit.jsonl").read_text().count("registered") == 2
    finally:
        opened.close()


def test_an_operator_waits_for_no_crowd(tmp_path: Path) -> None:
    settings = CoordinatorSettings(state_dir=str(tmp_path), registrations_at_once=1)
    opened = open_coordinator(settings)
    operator = {"authorization": f"Bearer {(tmp_path / 'operator.token').read_text().strip()}"}
    signers = [a_signer(opened) for _ in range(4)]

    async def crowded() -> list[str]:
        held = threading.Event()
        before = asyncio.ensure_future(opened.commit_queue.run(lambda: held.wait(10)))
        await asyncio.sleep(0)
        proofs: list[Optional[dict[str, str]]] = [None, None, {"authorization": "Bearer dux_operator_no"}, operator]
        asked = [
            asyncio.ensure_future(opened.register(request(signer, 1, proof))) for signer, proof in zip(signers, proofs)
        ]
        await asyncio.sleep(0)
        answers = [_kind(each.exception()) if each.done() else "waits" for each in asked]
        held.set()
        await before
        await asyncio.gather(*asked, return_exceptions=True)
        assert asked[3].exception() is None
        return answers

    try:
        assert asyncio.run(crowded()) == ["waits", "busy", "token-required", "waits"]
        assert opened.registry.get_node(signers[3].node_id) is not None
    finally:
        opened.close()


def test_what_fails_alone_leaves_the_others_and_no_trace(coordinator: Coordinator, tmp_path: Path) -> None:
    signers = [a_signer(coordinator) for _ in range(2)]

    def fails() -> None:
        coordinator.audit.note("test", "nothing", "n")
        raise RuntimeError("not ours")

    answers = together(coordinator, [request(signers[0], 1), fails, request(signers[1], 1)])
    assert [type(answer) for answer in answers] == [Registered, RuntimeError, Registered]
    assert "nothing" not in (tmp_path / "audit.jsonl").read_text()
    assert (tmp_path / "audit.jsonl").read_text().count("registered") == 2


def test_who_has_proven_nothing_does_not_make_the_operator_think_that_the_disk_is_well(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StoreError("nodes.db", "cannot be written: No space left on device")

    signer, other = a_signer(coordinator), a_signer(coordinator)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "duxnet.coordinator"):
        patched.setattr(coordinator.registry._store, "commit", full)
        for generation in range(1, 4):
            assert isinstance(alone(coordinator, request(signer, generation)), StoreError)
            forged = {**other.headers(b""), "content-digest": "sha-256=:no:"}
            refused = alone(coordinator, request(other, 1, forged))
            assert isinstance(refused, SignatureRefused)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert isinstance(alone(coordinator, request(signer, 9)), Registered)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_damaged_record_fails_alone_and_is_no_trouble_of_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = open_coordinator(CoordinatorSettings(state_dir=str(tmp_path)))
    signers = [a_signer(coordinator) for _ in range(4)]
    together(coordinator, [request(signer, 1) for signer in signers])
    coordinator.close()
    damage(tmp_path / "nodes.db", signers[1].node_id)
    again = open_coordinator(coordinator.settings)
    commit_queue = 0
    commit = again.registry._store.commit

    def counting(*given: Any) -> None:
        nonlocal commit_queue
        commit_queue += 1
        commit(*given)

    monkeypatch.setattr(again.registry._store, "commit", counting)
    try:
        answers = together(again, [request(signer, 2) for signer in signers])
    finally:
        again.close()
    assert [type(answer) for answer in answers] == [Registered, DamagedStoreError, Registered, Registered]
    assert commit_queue == 1
    assert "cannot be kept" not in caplog.text


def test_a_disk_that_does_not_answer_is_waited_for_once_and_not_by_each(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def write() -> None:
        if coordinator.audit.mark():
            tried.append(coordinator.audit.mark())
            raise StoreError("audit.jsonl", "is locked")

    monkeypatch.setattr(coordinator.audit, "write_noted", write)
    found = together(coordinator, [request(a_signer(coordinator), 1) for _ in range(10)])
    assert [type(each) for each in found] == [StoreError] * 10
    assert tried == [10, 1]


def test_a_change_whose_caller_is_gone_before_its_commit_is_dropped(coordinator: Coordinator) -> None:
    carried_out: list[int] = []

    async def cancelled() -> None:
        held = threading.Event()
        before = asyncio.ensure_future(coordinator.commit_queue.run(lambda: held.wait(10)))
        await asyncio.sleep(0)
        waits = [
            asyncio.ensure_future(coordinator.commit_queue.run(lambda number=number: carried_out.append(number)))  # type: ignore[misc]  # a default
            for number in range(3)
        ]
        signer = a_signer(coordinator)
        registers = asyncio.ensure_future(coordinator.register(request(signer, 1)))
        await asyncio.sleep(0)
        waits[1].cancel()
        registers.cancel()
        await asyncio.sleep(0)
        assert coordinator.registration_limiter.has_room("")
        held.set()
        await asyncio.gather(before, *waits, registers, return_exceptions=True)
        assert coordinator.registry.get_node(signer.node_id) is None
        assert coordinator.registration_limiter._in_hand == 0
        assert await coordinator.commit_queue.run(lambda: 7) == 7

    asyncio.run(cancelled())
    assert carried_out == [0, 2]


def test_a_change_that_is_tried_again_is_not_prepared_again(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    signers = [a_signer(coordinator) for _ in range(3)]
    prepare, prepared = coordinator.admission.prepare, []

    def counting(asked: RegistrationRequest) -> Any:
        prepared.append(asked.node_id)
        return prepare(asked)

    def fails() -> None:
        raise RuntimeError("not ours")

    monkeypatch.setattr(coordinator.admission, "prepare", counting)
    answers = together(coordinator, [*(request(signer, 1) for signer in signers), fails])
    assert [type(answer) for answer in answers] == [Registered] * 3 + [RuntimeError]
    assert sorted(prepared) == sorted(signer.node_id for signer in signers)


def test_a_registration_reads_its_record_once(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    signers = [a_signer(coordinator) for _ in range(3)]
    together(coordinator, [request(signer, 1) for signer in signers])
    read = coordinator.registry._store.read
    reads: list[str] = []

    def counting(node_id: str, *more: Any) -> Any:
        reads.append(node_id)
        return read(node_id, *more)

    monkeypatch.setattr(coordinator.registry._store, "read", counting)
    answers = together(coordinator, [request(signer, generation) for generation in (2, 3) for signer in signers])
    assert generations(answers) == [2, 2, 2, 3, 3, 3]
    assert sorted(reads) == sorted(signer.node_id for signer in signers)
    reads.clear()
    assert together(coordinator, [lambda: coordinator._removed(signers[0].node_id, "test")]) == [True]
    assert reads == [signers[0].node_id]
