"""A wallet is a label until proven; once proven it answers for what its nodes did."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core import Node, NodeRegistry
from registry_core.embedded.transactions import UnitOfWork
from registry_core.embedded.wallets import _key
from registry_core.errors import UnknownNodeError, ValidationError
from registry_core.identity.wallets import proof_message
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Outcome, Tombstone, record, reputation_of
from registry_core.rules.reputation.carry_over import with_wallet
from tests.support.ethereum import Wallet

WALLET = Wallet(11)
_PROVEN = "its wallet is proven: failures of the wallet's other nodes count against it"


@pytest.fixture(params=["nodes.json", "nodes.db"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def registry(path: Path) -> Iterator[NodeRegistry]:
    with NodeRegistry(persistence_path=path) as opened:
        yield opened


def _add(registry: NodeRegistry, node_id: str, wallet: str = WALLET.address) -> None:
    registry.register_node(Node("192.0.2.1", id=node_id, wallet_address=wallet))


def _prove(registry: NodeRegistry, node_id: str) -> None:
    registry.admin.attach_wallet(node_id, WALLET.sign(proof_message(node_id)), actor="op")


def _fail(registry: NodeRegistry, node_id: str) -> None:
    for _ in range(3):
        registry.update_node_reputation(node_id, False, weight=5.0)


def _is_proven(registry: NodeRegistry, node_id: str) -> bool:
    return _PROVEN in registry.get_reputation(node_id).reasons


def _admission(registry: NodeRegistry, node_id: str) -> Admission:
    node = registry.get_node(node_id)
    assert node is not None
    return node.admission


def test_a_proof_is_kept_over_restarts_and_told_in_an_event(registry: NodeRegistry, path: Path) -> None:
    _add(registry, "a")
    before = registry.events.last_index
    _prove(registry, "a")
    told = [event.details for event in registry.events.after(before)]
    assert told == [{"wallet": "proven", "wallet_address": WALLET.address, "actor": "op"}]
    registry.close()
    with NodeRegistry(persistence_path=path) as again:
        assert _is_proven(again, "a")
        before = again.events.last_index
        _prove(again, "a")  # twice is no error, and no news
        assert again.events.last_index == before


def test_what_proves_nothing_changes_nothing(registry: NodeRegistry) -> None:
    _add(registry, "a")
    _add(registry, "b", wallet="")
    before = registry.events.last_index
    for node_id, signature, named in [
        ("a", Wallet(12).sign(proof_message("a")), "signature"),  # another wallet
        ("a", WALLET.sign(proof_message("b")), "signature"),  # for another node
        ("b", WALLET.sign(proof_message("b")), "wallet_address"),  # it names none
    ]:
        with pytest.raises(ValidationError, match=named):
            registry.admin.attach_wallet(node_id, signature)
    with pytest.raises(UnknownNodeError):
        registry.admin.attach_wallet("c", WALLET.sign(proof_message("c")))
    assert registry.events.last_index == before
    assert not _is_proven(registry, "a")


def test_a_proof_ends_with_the_wallet_and_stays_with_any_other_change(registry: NodeRegistry) -> None:
    _add(registry, "a")
    _prove(registry, "a")
    registry.register_node(Node("192.0.2.9", id="a", wallet_address=WALLET.address))
    assert _is_proven(registry, "a")
    _add(registry, "a", wallet="another")
    _add(registry, "a")
    assert not _is_proven(registry, "a")


def test_a_verifier_of_ones_own_can_be_given(registry: NodeRegistry) -> None:
    class Trusting:
        def verify(self, wallet_address: str, message: str, signature: str) -> bool:
            return (wallet_address, message, signature) == ("dux:1", proof_message("a"), "fine")

    _add(registry, "a", wallet="dux:1")
    registry.admin.attach_wallet("a", "fine", verifier=Trusting())
    assert _is_proven(registry, "a")


@pytest.mark.parametrize("way_out", ["removed", "other wallet", "still there"])
def test_faults_come_back_with_the_proven_wallet(registry: NodeRegistry, path: Path, way_out: str) -> None:
    _add(registry, "a")
    _prove(registry, "a")
    _fail(registry, "a")
    registry.admin.ban("a", reason="cheats")
    left = registry.get_reputation("a")
    if way_out == "removed":
        registry.deregister_node("a")
    elif way_out == "other wallet":
        _add(registry, "a", wallet="another")
    registry.close()
    with NodeRegistry(persistence_path=path) as again:
        _add(again, "b", wallet=WALLET.address.upper().replace("0X", "0x"))
        assert _admission(again, "b") is Admission.PROBATION
        _prove(again, "b")
        assert _admission(again, "b") is Admission.BANNED
        assert again.get_reputation("b").posterior_mean == pytest.approx(left.posterior_mean)
        again.deregister_node("b")  # and further on, from node to node
        _add(again, "c")
        _prove(again, "c")
        assert _admission(again, "c") is Admission.BANNED


def test_who_only_names_a_wallet_neither_harms_nor_helps_it(registry: NodeRegistry) -> None:
    _add(registry, "stranger")
    _fail(registry, "stranger")
    registry.admin.ban("stranger", reason="cheats")
    registry.deregister_node("stranger")
    _add(registry, "owner")
    newcomer = registry.get_reputation("owner")
    _prove(registry, "owner")
    proven = registry.get_reputation("owner")
    assert (proven.score, proven.posterior_mean, proven.standing) == (
        newcomer.score,
        newcomer.posterior_mean,
        newcomer.standing,
    )
    _fail(registry, "owner")
    _add(registry, "another")
    assert registry.get_reputation("another").posterior_mean == 0.5


def test_merits_are_not_lent_to_new_nodes_and_honest_siblings_cost_nothing(registry: NodeRegistry) -> None:
    _add(registry, "good")
    for _ in range(30):
        registry.update_node_reputation("good", True)
    _add(registry, "new")
    _prove(registry, "new")
    good = registry.get_reputation("good")
    _prove(registry, "good")
    assert registry.get_reputation("good").score == good.score
    registry.deregister_node("good")
    _add(registry, "newer")
    _prove(registry, "newer")
    assert registry.get_reputation("newer").score == 0.25


def test_a_batch_sees_its_own_proofs_and_one_that_failed_leaves_none(registry: NodeRegistry) -> None:
    for node_id in ("a", "b"):
        _add(registry, node_id)
    _fail(registry, "a")

    def prove_and_fail() -> None:
        with registry.batch():
            _prove(registry, "a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        prove_and_fail()
    _prove(registry, "b")
    assert registry.get_reputation("b").posterior_mean == 0.5
    _add(registry, "c")
    with registry.batch():
        _prove(registry, "a")
        _prove(registry, "c")
    assert registry.get_reputation("c").posterior_mean < 0.5


_outcomes = st.lists(st.tuples(st.booleans(), st.floats(0.1, 5.0)), max_size=8)


def _kept(told: list[tuple[bool, float]], standing: Admission) -> Tombstone:
    state = EvidenceState(first_seen_seconds=0.0)
    for at, (success, weight) in enumerate(told):
        state = record(state, Outcome(success, weight=weight), float(at))
    return Tombstone(state, standing)


@settings(max_examples=60, deadline=None)
@given(_outcomes, st.lists(st.tuples(_outcomes, st.sampled_from(Admission)), max_size=3))
def test_proving_a_wallet_never_raises_a_score_nor_outranks_what_was_left(
    own: list[tuple[bool, float]], others: list[tuple[list[tuple[bool, float]], Admission]]
) -> None:
    before = _kept(own, Admission.PROBATION)
    past = [_kept(told, standing) for told, standing in others]
    after = with_wallet(before, past)
    assert reputation_of(after.evidence).score <= reputation_of(before.evidence).score
    assert after.standing is not Admission.APPROVED
    for kept in past:
        if kept.standing is Admission.BANNED:
            assert after.standing is Admission.BANNED


def test_proofs_that_come_at_the_same_time_are_all_remembered(registry: NodeRegistry) -> None:
    names = [f"n{number}" for number in range(24)]
    for name in names:
        _add(registry, name)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: _prove(registry, name), names))
    nodes, _ = registry._reputations.tombstones.of_wallet(UnitOfWork(), _key(WALLET.address))
    assert sorted(nodes) == sorted(names)


def test_a_sealed_registry_shows_neither_wallet_nor_proof(path: Path) -> None:
    signature = WALLET.sign(proof_message("a"))
    with NodeRegistry(persistence_path=path, encryption_key=b"k" * 32) as registry:
        _add(registry, "a")
        _prove(registry, "a")
    with NodeRegistry(persistence_path=path, encryption_key=b"k" * 32) as registry:
        assert _is_proven(registry, "a")
    raw = b"".join(file.read_bytes() for file in path.parent.glob("nodes*") if file.is_file())
    for secret in (WALLET.address, signature):
        assert secret[2:].encode() not in raw
