"""`RemoteRegistry.admin`: what an operator orders, given to a coordinator. Each call needs an operator's token.

Here: the calls of `registry.admin`, with the same names and errors. Who gave an order is there known by the token, so
`actor` is taken for the sake of one interface and goes nowhere. Not here: sending (`remote_registry`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Callable, Optional

import msgspec

from registry_core.models import limits
from registry_core.models.status import Admission, Cordon
from registry_core.models.times import time_to_text
from registry_core.wire.shapes import AdmissionChange, CordonOrder, WalletProof

__all__ = ["RemoteAdmin"]


class RemoteAdmin:
    """`order` sends (method, node id, part of the node's path, body) and raises what the answer means."""

    def __init__(self, order: Callable[[str, str, str, Optional[bytes]], None]) -> None:
        self._order = order

    def approve(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """Let the node take part for good."""
        self._admit(node_id, Admission.APPROVED, reason)

    def put_on_probation(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """Let the node take part for now."""
        self._admit(node_id, Admission.PROBATION, reason)

    def suspend(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """Take the node out until it is approved or put on probation again."""
        self._admit(node_id, Admission.SUSPENDED, reason)

    def ban(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """Take the node out for good."""
        self._admit(node_id, Admission.BANNED, reason)

    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """Give the node no new work, until `until` (a time with its zone) or until `uncordon`."""
        checked = Cordon(reason, actor, until)
        order = CordonOrder(checked.reason, time_to_text(checked.until))
        self._order("PUT", node_id, "cordon", msgspec.json.encode(order))

    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """Let the node get work again. No error when it was not cordoned."""
        self._order("DELETE", node_id, "cordon", None)

    def attach_wallet(self, node_id: str, signature: str, *, actor: str = "") -> None:  # noqa: ARG002
        """Prove the wallet that the node names; the coordinator checks it."""
        proof = WalletProof(limits.text("signature", signature, "wallet_proof"))
        self._order("PUT", node_id, "wallet-proof", msgspec.json.encode(proof))

    def _admit(self, node_id: str, admission: Admission, reason: str) -> None:
        change = AdmissionChange(str(admission), limits.displayable("reason", reason, "reason"))
        self._order("PUT", node_id, "admission", msgspec.json.encode(change))
