"""What the registry remembers of proven wallets: which nodes proved one, and the worst that such a node left behind.

Here: proofs in records, the memory beside them. Not here: who checks signatures (`identity.wallets`), what a wallet's
past means (`rules.reputation.returning`). Only a proven wallet has a memory: anybody may write another's in a record.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple, Optional

from registry_core.embedded.tombstones import Tombstones
from registry_core.embedded.transactions import Transactions, UnitOfWork
from registry_core.errors import ValidationError
from registry_core.events import EventKind
from registry_core.identity.wallets import EthereumWallets, WalletVerifier, canonical_wallet, proof_message
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission
from registry_core.models.trusted import record_with
from registry_core.rules.reputation import (
    CountedTasks,
    StandingChange,
    Tombstone,
    is_faulty,
    starting_record,
    with_wallet,
)
from registry_core.rules.reputation.stored_evidence import record_of, state_of

__all__ = ["MOST_NODES_OF_A_WALLET", "ProofTerms", "Wallets", "check_proof", "proven_wallet"]

MOST_NODES_OF_A_WALLET = 1_000
"""Nodes that may prove one wallet at a time."""


def proven_wallet(record: NodeRecord) -> str:
    """The wallet that the node proved, while it names it; else ""."""
    wallet = record.node.wallet_address
    return wallet if wallet and record.wallet_proof.get("wallet_address") == wallet else ""


def check_proof(node: Node, signature: str, verifier: Optional[WalletVerifier] = None) -> None:
    """Raises ValidationError unless the node's wallet signed for it; NotSupportedError without the verifier's library.

    `verifier`: default Ethereum's.
    """
    limits.text("signature", signature, "wallet_proof")
    if not node.wallet_address:
        raise ValidationError("wallet_address", "", "must be in the node's record before it can be proven")
    used = EthereumWallets() if verifier is None else verifier
    if not used.verify(node.wallet_address, proof_message(node.id), signature):
        raise ValidationError("signature", signature, "is not this wallet's, over this node's message")


class ProofTerms(NamedTuple):
    """Who brings a proof; how many nodes a wallet may have before the next must wait for approval (0: any number)."""

    actor: str = ""
    quota: int = 0


class Wallets:
    """Part of the registry; called inside its commands."""

    def __init__(self, transactions: Transactions, tombstones: Tombstones) -> None:
        self._transactions = transactions
        self._tombstones = tombstones

    def attach(
        self,
        unit: UnitOfWork,
        record: NodeRecord,
        signature: str,
        verifier: Optional[WalletVerifier],
        terms: ProofTerms,
    ) -> Optional[StandingChange]:
        """Check the proof and keep it; the node takes over what the wallet has to answer for."""
        node = record.node
        check_proof(node, signature, verifier)
        if proven_wallet(record):
            return None
        key = _key(node.wallet_address)
        nodes, left = self._tombstones.of_wallet(unit, key)
        if len(nodes) >= MOST_NODES_OF_A_WALLET:
            raise ValidationError("wallet_address", node.wallet_address, f"{len(nodes)} nodes have proven it: no more")
        others = [self._transactions.remains(node_id, unit) for node_id in nodes]
        past = [kept_of(other) for other in others if other is not None] + ([] if left is None else [left])
        own = Tombstone(state_of(record), node.admission)
        taken = with_wallet(own, past)
        proof = FrozenMap({"wallet_address": node.wallet_address, "signature": signature})
        after = record_with(record, wallet_proof=proof)
        change = None
        if taken.standing is not own.standing:
            change = StandingChange(taken.standing, "its proven wallet has nodes that failed")
            after = record_of(after, taken.evidence, admission=change.to, admission_reason=change.reason)
        elif terms.quota and len(nodes) >= terms.quota and node.admission is Admission.PROBATION:
            change = StandingChange(Admission.PENDING, "quota")
            after = record_of(after, taken.evidence, admission=change.to, admission_reason=change.reason)
        elif taken is not own:
            after = record_of(after, taken.evidence)
        self._tombstones.bury_wallet(unit, key, [*nodes, node.id], left)
        self._transactions.put(unit, after)
        details = {"wallet": "proven", "wallet_address": node.wallet_address, "actor": terms.actor}
        unit.events.append((EventKind.UPDATED, node.id, FrozenMap(details)))
        if taken is not own:
            scores = {"from": f"{node.reputation:.2f}", "to": f"{after.node.reputation:.2f}"}
            unit.events.append((EventKind.REPUTATION, node.id, FrozenMap(scores)))
        return change

    def leave(self, unit: UnitOfWork, record: NodeRecord) -> None:
        """The node is removed, or names its wallet no more: the wallet answers for it further on."""
        wallet = proven_wallet(record)
        if not wallet:
            return
        key = _key(wallet)
        nodes, left = self._tombstones.of_wallet(unit, key)
        kept = kept_of(record)
        if is_faulty(kept):
            left = kept if left is None else starting_record(None, [left, kept])
        others = [node_id for node_id in nodes if node_id != record.node.id]
        self._tombstones.bury_wallet(unit, key, others, left)


def kept_of(record: NodeRecord) -> Tombstone:
    """What a wallet answers for: neither task ids nor single raters, so that it stays small."""
    return Tombstone(replace(state_of(record), tasks=CountedTasks(), raters=FrozenMap()), record.node.admission)


def _key(wallet_address: str) -> str:
    """A hash: the keys of a sealed registry's tombstones are not sealed."""
    return hashlib.sha256(canonical_wallet(wallet_address).encode("utf-8")).hexdigest()
