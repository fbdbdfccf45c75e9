"""What the registry stores about proven wallets: which nodes proved one, and the worst reputation such a node left.

Unproven wallets are ignored, since a node can name any wallet in its record. Signatures are checked in
`identity.wallets`; what a wallet's past means for a node is decided in `rules.reputation.carry_over`.
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
"""Maximum number of registered nodes that have proven the same wallet."""


def proven_wallet(record: NodeRecord) -> str:
    """The wallet that the node has proven, if its record still names it; else ""."""
    wallet = record.node.wallet_address
    return wallet if wallet and record.wallet_proof.get("wallet_address") == wallet else ""


def check_proof(node: Node, signature: str, verifier: Optional[WalletVerifier] = None) -> None:
    """Raise ValidationError unless the node's wallet signed the node's message.

    `verifier` defaults to Ethereum's. Raises NotSupportedError if the verifier's library is not installed.
    """
    limits.text("signature", signature, "wallet_proof")
    if not node.wallet_address:
        raise ValidationError("wallet_address", "", "must be set in the node's record before it can be proven")
    used = EthereumWallets() if verifier is None else verifier
    if not used.verify(node.wallet_address, proof_message(node.id), signature):
        raise ValidationError("signature", signature, "must be this wallet's signature of this node's message")


class ProofTerms(NamedTuple):
    """Who submits a proof, and after how many nodes of a wallet the next must wait for approval (0: no limit)."""

    actor: str = ""
    quota: int = 0


class Wallets:
    """Part of the registry, called within its commands."""

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
        """Check and store the proof; the node takes over the faults of the wallet's other nodes."""
        node = record.node
        check_proof(node, signature, verifier)
        if proven_wallet(record):
            return None
        key = _key(node.wallet_address)
        nodes, left = self._tombstones.of_wallet(unit, key)
        if len(nodes) >= MOST_NODES_OF_A_WALLET:
            rule = f"must be proven by at most {MOST_NODES_OF_A_WALLET} nodes at a time"
            raise ValidationError("wallet_address", node.wallet_address, rule)
        others = [self._transactions.remains(node_id, unit) for node_id in nodes]
        past = [kept_of(other) for other in others if other is not None] + ([] if left is None else [left])
        own = Tombstone(state_of(record), node.admission)
        taken = with_wallet(own, past)
        proof = FrozenMap({"wallet_address": node.wallet_address, "signature": signature})
        after = record_with(record, wallet_proof=proof)
        change = None
        if taken.standing is not own.standing:
            change = StandingChange(taken.standing, "other nodes of its proven wallet failed")
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
        """Keep the node's faults with its wallet when the node is removed or no longer names the wallet."""
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
    """What is kept with a wallet: without task ids and raters, to keep it small."""
    return Tombstone(replace(state_of(record), tasks=CountedTasks(), raters=FrozenMap()), record.node.admission)


def _key(wallet_address: str) -> str:
    """The wallet's key in the store: a hash, because the keys of tombstones are not encrypted in a sealed registry."""
    return hashlib.sha256(canonical_wallet(wallet_address).encode("utf-8")).hexdigest()
