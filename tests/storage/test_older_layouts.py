"""Files of layouts 1 and 2 open with all that is the registry's, and without what strangers put in its place."""

from __future__ import annotations

import logging
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.identity.wallets import proof_message
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission
from registry_core.models.trusted import node_with, record_with
from registry_core.rules.reputation import HourObserved, Outcome
from registry_core.rules.reputation.stored_evidence import after_hours, after_outcome, decided_by_operator
from registry_core.storage.maintenance.verify import verify
from registry_core.storage.older_records import of_older_layout
from registry_core.storage.sealing import KeyRing, SealingKey
from registry_core.testing import START
from tests.support.builders import a_node
from tests.support.ethereum import Wallet
from tests.support.older_files import older_json, older_plain, older_sqlite
from tests.support.writers import KEY, content, digests

AT = START.timestamp()
WALLET = Wallet(7)
SENT = {"rack": 7, "deep": {"list": [1, None]}}


def a_record(number: int, **fields: Any) -> NodeRecord:
    node = a_node(number, registered_at=START, reputation=2.5, **fields)
    return NodeRecord(node, number, host_state=FrozenMap({"generation": number, "peer": "192.0.2.1"}))


def worked(record: NodeRecord, seed: int, outcomes: int = 60) -> NodeRecord:
    """After outcomes, ratings and hours as they come."""
    draw = random.Random(seed)
    for number in range(outcomes):
        rater = f"node-{draw.randrange(100, 120)}" if draw.random() < 0.2 else None
        outcome = Outcome(draw.random() < 0.8, f"task-{number}", weight=draw.choice((0.1, 1.0, 5.0)), rater=rater)
        found = after_outcome(record, outcome, AT + draw.randrange(10) * 3600.0)
        assert found is not None
        record = found[0]
        hours = [HourObserved(draw.random(), draw.choice((0.0, 0.3, 1.0)), draw.random() < 0.5) for _ in range(3)]
        record = after_hours(record, hours, AT)
    return record


def proven(number: int) -> NodeRecord:
    record = a_record(number, wallet_address=WALLET.address)
    signature = WALLET.sign(proof_message(record.node.id))
    return record_with(record, wallet_proof=FrozenMap({"wallet_address": WALLET.address, "signature": signature}))


def decided(record: NodeRecord, admission: Admission) -> NodeRecord:
    node = node_with(record.node, admission=admission, admission_reason="an operator said so")
    return record_with(record, node=node, history=decided_by_operator(record, admission))


OURS = [
    a_record(1),
    worked(a_record(2), 2),
    proven(3),
    decided(worked(a_record(4), 4), Admission.BANNED),
    decided(a_record(5), Admission.APPROVED),
    worked(proven(6), 6, outcomes=1200),
    replace(a_record(7), interval_seconds=0.2),
]


@pytest.mark.parametrize("sent", [{}, SENT], ids=["plain", "with-extras"])
@pytest.mark.parametrize(
    ("name", "key", "write"),
    [
        ("nodes.db", None, older_sqlite),
        ("nodes.db", KEY, lambda path, records: older_sqlite(path, records, KEY)),
        ("nodes.json", None, older_json),
    ],
    ids=["sqlite", "sealed", "json"],
)
def test_nothing_is_lost_that_is_the_registrys(
    tmp_path: Path,
    name: str,
    key: Optional[SealingKey],
    write: Callable[..., None],
    sent: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / name
    write(path, [(record, sent) for record in OURS])
    before = digests(tmp_path)
    expected = {r.node.id: record_with(r, node=Node(**{**r.node.__dict__, "extra": sent})) for r in OURS}
    if name.endswith(".json"):  # whose score follows from the evidence when it is read
        expected = {i: record_with(r, node=node_with(r.node, reputation=0.0)) for i, r in expected.items()}

    def read() -> dict[str, NodeRecord]:
        found = {node_id: record for node_id, (_columns, record) in content(path, key).items()}
        if name.endswith(".json"):
            return {i: record_with(r, node=node_with(r.node, reputation=0.0)) for i, r in found.items()}
        return found

    assert read() == expected  # by a reader, which changes nothing
    assert digests(tmp_path) == before
    with NodeRegistry(path, encryption_key=key) as registry:
        registry.register_node(a_node(99))
        registry.deregister_node("node-99")
    assert read() == expected
    assert "dropped fields" not in caplog.text
    assert verify(path, None if key is None else KeyRing([key])).is_whole
    (aside,) = tmp_path.glob(f"{name}.*-*Z")
    shutil.copy(aside, tmp_path / f"old{path.suffix}")
    assert len(content(tmp_path / f"old{path.suffix}", key)) == len(OURS)


FORGED = {"first_seen_seconds": 1.0, "verified_tasks": 1000.0}


def laundered(history: dict[str, Any], outcomes: list[bool]) -> NodeRecord:
    """A forged history that was read as the registry's and written again with each outcome."""
    record = record_with(a_record(1), history=FrozenMap(history))
    for number, success in enumerate(outcomes):
        found = after_outcome(record, Outcome(success, f"t{number}", weight=1.0 if success else 5.0), AT)
        assert found is not None
        record = found[0]
    return record


POISONED: dict[str, tuple[NodeRecord, dict[str, Any], str]] = {
    "a history that breaks": (a_record(1), {"history": {"tasks": 7}}, "history"),
    "a history that is none": (a_record(1), {"history": [1]}, "history"),
    "a forged history": (a_record(1), {"history": FORGED}, "history"),
    "forged ratings": (a_record(1), {"history": {"first_seen_seconds": AT, "raters": {"seed": [1.0, AT]}}}, "history"),
    "a decision of nobody": (a_record(1), {"history": {"standing_by_operator": True}}, "history"),
    "a proof that is none": (a_record(1), {"wallet_proof": "x"}, "wallet_proof"),
    "a forged proof": (
        a_record(1, wallet_address=WALLET.address),
        {"wallet_proof": {"wallet_address": WALLET.address, "signature": WALLET.sign(proof_message("another"))}},
        "wallet_proof",
    ),
    "a proof of another wallet": (
        a_record(1, wallet_address="w"),
        {"wallet_proof": {"wallet_address": "w", "signature": "0x00"}},
        "wallet_proof",
    ),
    "unknown that is none": (a_record(1), {"unknown": {"capabilities": 5}}, "unknown"),
    "unknown of a node": (a_record(1), {"unknown": {"capabilities": {"npus": 4}}}, "unknown"),
    "unknown with our names": (a_record(1), {"unknown": {"history": {"tasks": []}}}, "unknown"),
    "a state that is none": (replace(a_record(1), host_state=FrozenMap()), {"host_state": "x"}, "host_state"),
    "an interval that is none": (a_record(1), {"interval_seconds": "x"}, "interval_seconds"),
    "names of ours": (a_record(1), {"score": 5.0, "standing": "approved", "verified": True}, "'score'"),
    "a name that moves the cursor": (a_record(1), {"x\x1b[2J": 1}, "'x"),
    "a forged history that was believed": (laundered(FORGED, [True] * 12), {}, "history"),
}


@pytest.mark.parametrize("kind", POISONED)
@pytest.mark.parametrize(("name", "write"), [("nodes.db", older_sqlite), ("nodes.json", older_json)])
def test_what_cannot_be_the_registrys_is_dropped_with_one_line(
    tmp_path: Path, name: str, write: Callable[..., None], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    record, sent, named = POISONED[kind]
    path = tmp_path / name
    write(path, [(record, {**sent, "rack": 7}), (a_record(2), {})])
    with caplog.at_level(logging.WARNING), NodeRegistry(path) as registry:
        lines = [line.getMessage() for line in caplog.records if "dropped fields" in line.getMessage()]
        assert len(lines) == 1
        assert "node-1" in lines[0]
        assert named in lines[0]
        assert lines[0].isprintable()
        node = registry.get_node("node-1")
        assert node is not None
        assert node.extra == {"rack": 7}
        kept = registry._store.read("node-1")
        assert kept is not None
        assert (kept.history, kept.wallet_proof, kept.unknown) == ({}, {}, {})
        assert kept.host_state == record.host_state
        assert kept.node.admission is Admission.PROBATION
        assert registry.deregister_node("node-1")
    caplog.clear()
    with NodeRegistry(path) as registry:
        assert [node.id for node in registry.list_nodes()] == ["node-2"]
    assert "dropped fields" not in caplog.text
    assert verify(path).is_whole


def test_a_decision_that_no_operator_made_ends_on_probation_and_the_rest_of_a_history_stays() -> None:
    record = laundered({"standing_by_operator": True}, [False] * 12)
    assert record.history["standing_by_operator"]
    found = of_older_layout(older_plain(record, {}))
    assert found.plain["history"] == {k: v for k, v in record.history.items() if k != "standing_by_operator"}
    assert len(found.dropped) == 1


def test_an_approval_that_a_forged_history_earned_is_taken_back_and_an_operators_is_not() -> None:
    earned = laundered(FORGED, [True] * 12)
    assert earned.node.admission is Admission.APPROVED
    assert of_older_layout(older_plain(earned, {})).plain["admission"] == "probation"
    found = of_older_layout(older_plain(decided(earned, Admission.APPROVED), {})).plain
    assert (found["admission"], found["history"]) == ("approved", {"standing_by_operator": True})


@pytest.mark.parametrize("seed", range(12))
def test_no_history_that_the_rules_write_is_taken_for_a_forged_one(seed: int) -> None:
    record = worked(a_record(1), seed, outcomes=seed * 25)
    for sent in ({}, SENT):
        assert of_older_layout(older_plain(record, sent)).dropped == ()


def test_a_damaged_record_stays_as_it_is_and_all_others_are_brought_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    path = tmp_path / "nodes.db"
    older_sqlite(path, [(a_record(number), SENT) for number in (1, 2, 3)])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE nodes SET record = zeroblob(50) WHERE id = 'node-2'")
    connection.close()
    with NodeRegistry(path) as registry:
        assert "node-2" in caplog.text
        assert [node.extra for node in registry.list_nodes(exclude=["node-2"])] == [SENT_FROZEN, SENT_FROZEN]
        assert registry.deregister_node("node-2")
        assert len(registry.list_nodes()) == 2


SENT_FROZEN = {"rack": 7, "deep": {"list": (1, None)}}


def test_verify_says_of_an_older_file_what_will_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    older_sqlite(path, [(a_record(1), {"wallet_proof": "x"})])
    found = verify(path)
    assert found.is_whole
    assert "wallet_proof" in found.notes[0]
