"""What operators say about nodes (`registry.admin`) and what its host does with a registry (`registry.maintenance`).

Here: the commands on admission and scheduling. Not here: which are allowed when (`rules.admission`), who
may give them (the host).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Callable, Optional

from registry_core.embedded.reputations import Reputations
from registry_core.embedded.transactions import Transactions, UnitOfWork
from registry_core.embedded.wallets import ProofTerms
from registry_core.errors import UnknownNodeError
from registry_core.events import EventKind
from registry_core.identity.wallets import WalletVerifier
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Cordon, Scheduling
from registry_core.models.trusted import node_with, record_with
from registry_core.rules.admission import AdmissionCommand, admission_after
from registry_core.rules.reputation.stored_evidence import decided_by_operator

__all__ = ["RegistryAdmin", "RegistryMaintenance", "existing"]


class RegistryAdmin:
    """Commands of operators. Each is durable before it returns and says in an event who gave it, and why.

    All raise UnknownNodeError for an unknown id, ValidationError for a text that is no reason or actor and for a
    command that makes no sense in the node's state, and StoreError.
    """

    def __init__(self, transactions: Transactions, before_change: Callable[[], None], reputations: Reputations) -> None:
        self._transactions = transactions
        self._before_change = before_change
        self._reputations = reputations

    def approve(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node take part for good."""
        self._admit(node_id, AdmissionCommand.APPROVE, reason, actor)

    def put_on_probation(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node take part for now; how new nodes begin."""
        self._admit(node_id, AdmissionCommand.PUT_ON_PROBATION, reason, actor)

    def suspend(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Take the node out until it is approved or put on probation again."""
        self._admit(node_id, AdmissionCommand.SUSPEND, reason, actor)

    def ban(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Take the node out for good; registering again does not help it. Works whatever its record holds."""
        self._admit(node_id, AdmissionCommand.BAN, reason, actor)

    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """Give the node no new work, until `until` (a time with its zone) or until `uncordon`."""
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        cordon = Cordon(reason, actor, until)
        self._before_change()
        with self._transactions.command() as unit:
            record = existing(self._transactions, unit, node_id)
            node = node_with(record.node, scheduling=Scheduling.CORDONED, cordon=cordon)
            self._change(unit, record, node, EventKind.SCHEDULING, "cordoned", reason, actor)

    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node get work again. No error when it was not cordoned."""
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        self._before_change()
        with self._transactions.command() as unit:
            record = existing(self._transactions, unit, node_id)
            if record.node.scheduling is Scheduling.CORDONED:
                node = node_with(record.node, scheduling=Scheduling.ELIGIBLE, cordon=None)
                self._change(unit, record, node, EventKind.SCHEDULING, "eligible", reason, actor)

    def attach_wallet(
        self,
        node_id: str,
        signature: str,
        *,
        verifier: Optional[WalletVerifier] = None,
        actor: str = "",
        quota: int = 0,
    ) -> None:
        """Prove the wallet that the node names, by its signature over `identity.wallets.proof_message(node_id)`.

        The proof lasts until the node names another wallet or is removed. With it come the faults of the wallet's other
        proven nodes, those removed too. `verifier`: default Ethereum's, which needs the extra `ethereum`. Where `quota`
        other nodes have proven the wallet (0: any number may), a node on probation is `pending` with the reason
        `quota`. Raises ValidationError for a signature that proves nothing.
        """
        limits.displayable("actor", actor, "actor")
        limits.integer("quota", quota, 0, 2**31 - 1)
        self._before_change()
        with self._transactions.command() as unit:
            record = existing(self._transactions, unit, node_id)
            self._reputations.prove_wallet(unit, record, signature, verifier, ProofTerms(actor, quota))

    def _admit(self, node_id: str, command: AdmissionCommand, reason: str, actor: str) -> None:
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        self._before_change()
        with self._transactions.command() as unit:
            takes_out = command is AdmissionCommand.BAN  # that works whatever the record holds
            record = existing(self._transactions, unit, node_id, damaged_too=takes_out)
            after = admission_after(record.node.admission, command)
            node = node_with(record.node, admission=after, admission_reason=reason)
            record = record_with(record, history=decided_by_operator(record, after))
            self._change(unit, record, node, EventKind.ADMISSION, after.value, reason, actor)

    def _change(
        self, unit: UnitOfWork, record: NodeRecord, node: Node, kind: EventKind, to: str, reason: str, actor: str
    ) -> None:
        before = record.node.admission if kind is EventKind.ADMISSION else record.node.scheduling
        self._transactions.put(unit, record_with(record, node=node))
        details = FrozenMap({"from": before.value, "to": to, "reason": reason, "actor": actor})
        unit.events.append((kind, record.node.id, details))


class RegistryMaintenance:
    """What a host does beside the commands of `Registry`: the work of each hour."""

    def __init__(self, transactions: Transactions, before_change: Callable[[], None], reputations: Reputations) -> None:
        self._transactions = transactions
        self._before_change = before_change
        self._reputations = reputations

    @property
    def hours_are_due(self) -> bool:
        """Whether `settle_hours` has something to do. Asks nothing but memory, and no clock."""
        return self._reputations.hours_are_due

    def settle_hours(self, most: int = 1000) -> int:
        """Write the hours of attendance that are over into the evidence of at most `most` nodes, in one commit.

        Returns how many nodes were looked at; 0: nothing is due. Call it until then, hourly, from where waiting for the
        disk is allowed; about 0.1 ms a node. Nodes that get outcomes are settled with them.
        """
        self._before_change()
        return self._reputations.settle_hours(limits.integer("most", most, 1, 1_000_000))

    def weigh_ratings(self, seeds: Collection[str]) -> int:
        """Weigh all ratings of nodes by nodes anew, by the trust that flows from `seeds`; until then they do not count.

        `seeds` are ids of nodes that you trust: at least five that do not depend on each other. Reads every node once
        (about ten seconds for a million ratings); durable. Returns how many nodes' evidence changed.
        """
        self._before_change()
        return self._reputations.weigh_ratings([limits.identifier("seeds", seed) for seed in seeds])


def existing(transactions: Transactions, unit: UnitOfWork, node_id: object, *, damaged_too: bool = False) -> NodeRecord:
    """The newest record of the node, or UnknownNodeError. `damaged_too`: what is left of one that cannot be read."""
    find = transactions.remains if damaged_too else transactions.record
    record = find(limits.lookup_key(node_id), unit)
    if record is None:
        raise UnknownNodeError(node_id if isinstance(node_id, str) else repr(node_id))
    return record
