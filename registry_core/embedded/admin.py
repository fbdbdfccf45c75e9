"""`registry.admin`: the commands of operators on admission, scheduling and wallets.

`rules.admission` defines which transitions are allowed; the host decides who may use the commands.
"""

from __future__ import annotations

from datetime import datetime
from typing import Optional

from registry_core.contract import Admin
from registry_core.embedded.reputations import Reputations
from registry_core.embedded.transactions import Transactions, UnitOfWork
from registry_core.embedded.wallets import ProofTerms
from registry_core.events import EventKind
from registry_core.identity.wallets import WalletVerifier
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission, Cordon, Scheduling
from registry_core.models.trusted import node_with, record_with
from registry_core.rules.admission import check_admission
from registry_core.rules.reputation.stored_evidence import decided_by_operator

__all__ = ["RegistryAdmin"]


class RegistryAdmin(Admin):
    """Implements `Admin`. Each command adds an event with its actor and reason. Raises StoreError too."""

    def __init__(self, transactions: Transactions, reputations: Reputations) -> None:
        self._transactions = transactions
        self._reputations = reputations

    def set_admission(self, node_id: str, admission: Admission, *, reason: str = "", actor: str = "") -> None:
        """As `Admin.set_admission`."""
        limits.instance("admission", admission, Admission)
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        with self._transactions.command() as unit:
            takes_out = admission is Admission.BANNED  # works even if the record is damaged
            record = self._transactions.existing(node_id, unit, damaged_too=takes_out)
            check_admission(record.node.admission, admission)
            node = node_with(record.node, admission=admission, admission_reason=reason)
            record = record_with(record, history=decided_by_operator(record, admission))
            self._change(unit, record, node, EventKind.ADMISSION, admission.value, reason, actor)

    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """As `Admin.cordon`."""
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        cordon = Cordon(reason, actor, until)
        with self._transactions.command() as unit:
            record = self._transactions.existing(node_id, unit)
            node = node_with(record.node, scheduling=Scheduling.CORDONED, cordon=cordon)
            self._change(unit, record, node, EventKind.SCHEDULING, "cordoned", reason, actor)

    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """As `Admin.uncordon`."""
        limits.displayable("reason", reason, "reason")
        limits.displayable("actor", actor, "actor")
        with self._transactions.command() as unit:
            record = self._transactions.existing(node_id, unit)
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
        """Prove the node's wallet by the wallet's signature of `identity.wallets.proof_message(node_id)`.

        The proof lasts until the node names another wallet or is removed. The node takes over the faults of the
        wallet's other proven nodes, including removed ones. `verifier` defaults to Ethereum's, which needs the extra
        `ethereum`. If `quota` other nodes have proven the wallet (0: no limit), a node on probation becomes `pending`
        with the reason `quota`. Raises ValidationError for an invalid signature.
        """
        limits.displayable("actor", actor, "actor")
        limits.integer("quota", quota, 0, 2**31 - 1)
        with self._transactions.command() as unit:
            record = self._transactions.existing(node_id, unit)
            self._reputations.prove_wallet(unit, record, signature, verifier, ProofTerms(actor, quota))

    def _change(
        self, unit: UnitOfWork, record: NodeRecord, node: Node, kind: EventKind, to: str, reason: str, actor: str
    ) -> None:
        before = record.node.admission if kind is EventKind.ADMISSION else record.node.scheduling
        self._transactions.put(unit, record_with(record, node=node))
        details = FrozenMap({"from": before.value, "to": to, "reason": reason, "actor": actor})
        unit.events.append((kind, record.node.id, details))
