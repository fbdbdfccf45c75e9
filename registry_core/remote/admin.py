"""`RemoteRegistry.admin`: the calls of `registry.admin`, made to a coordinator with an operator's token.

Names and errors are the same. The coordinator identifies the operator by the token, so `actor` is accepted only to keep
the interface the same, and is ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Callable, Optional

import msgspec

from registry_core.contract import Admin
from registry_core.models import limits
from registry_core.models.status import Admission, Cordon
from registry_core.models.times import time_to_text
from registry_core.wire.shapes import AdmissionChange, CordonOrder, WalletProof

__all__ = ["RemoteAdmin"]


class RemoteAdmin(Admin):
    """`order` sends a request (method, node id, part of the node's path, body) and raises the answer's error."""

    def __init__(self, order: Callable[[str, str, str, Optional[bytes]], None]) -> None:
        self._order = order

    def set_admission(self, node_id: str, admission: Admission, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """As `Admin.set_admission`."""
        limits.instance("admission", admission, Admission)
        change = AdmissionChange(admission.value, limits.displayable("reason", reason, "reason"))
        self._order("PUT", node_id, "admission", msgspec.json.encode(change))

    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """As `Admin.cordon`."""
        checked = Cordon(reason, actor, until)
        order = CordonOrder(checked.reason, time_to_text(checked.until))
        self._order("PUT", node_id, "cordon", msgspec.json.encode(order))

    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:  # noqa: ARG002
        """As `Admin.uncordon`."""
        self._order("DELETE", node_id, "cordon", None)

    def attach_wallet(self, node_id: str, signature: str, *, actor: str = "") -> None:  # noqa: ARG002
        """As `Admin.attach_wallet`; the coordinator checks the proof."""
        proof = WalletProof(limits.text("signature", signature, "wallet_proof"))
        self._order("PUT", node_id, "wallet-proof", msgspec.json.encode(proof))
