"""Routes of raters and operators: outcomes of tasks, admission, cordons. The audit log records each one."""

from __future__ import annotations

from typing import Any, Callable

from duxnet.coordinator.access.roles import Caller
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import Response, json_response
from duxnet.coordinator.routes.queries import shown_node
from registry_core.embedded.wallets import check_proof
from registry_core.errors import UnknownNodeError
from registry_core.models import limits
from registry_core.models.encoding import reputation_to_plain
from registry_core.models.node import Node
from registry_core.models.status import Admission
from registry_core.models.times import time_from_text
from registry_core.rules.admission import check_admission
from registry_core.rules.reputation import Outcome
from registry_core.wire.shapes import AdmissionChange, CordonOrder, TaskOutcome, WalletProof

__all__ = ["attach_wallet", "change_admission", "cordon", "report_outcome", "uncordon"]


async def report_outcome(node_id: str, coordinator: Coordinator, caller: Caller, body: TaskOutcome) -> Response:
    """Needs the token of a rater or operator. A rater praises no node that names its own wallet; a fault counts always.

    A fault of a node that was removed meanwhile counts when it is back.

    `rater`: an operator may give any; a rater gives none, or its own token as `token:ID`.
    """
    # Any node may name a wallet to keep its owner from rating it, or be removed before its fault is reported.
    if body.success and caller.owns(_known(coordinator, node_id).wallet_address):
        raise Refused("not-allowed", "a rater may not report successes of nodes that name its own wallet")
    Outcome(body.success, body.task_id, body.dimension, body.weight, body.rater).checked()  # before it is logged
    caller.need_to_speak_as(body.rater)
    registry = coordinator.registry

    def change() -> Any:
        details = {"success": str(body.success).lower(), "weight": f"{body.weight:g}"}
        details.update((name, text) for name, text in (("task_id", body.task_id), ("rater", body.rater)) if text)
        coordinator.audit.note(caller.name, "outcome", node_id, **details)
        return registry.update_node_reputation(
            node_id,
            body.success,
            task_id=body.task_id,
            dimension=body.dimension,
            weight=body.weight,
            rater=body.rater,
        )

    return json_response(reputation_to_plain(await coordinator.commit_queue.run(change)))


async def change_admission(node_id: str, coordinator: Coordinator, caller: Caller, body: AdmissionChange) -> Response:
    """Needs an operator's token. A ban also works if the node's record is damaged."""
    admission = limits.choice("admission", body.admission, Admission)
    node = _banned(coordinator, node_id) if admission is Admission.BANNED else _known(coordinator, node_id)
    check_admission(node.admission, admission)  # refuse an impossible change before logging
    admin = coordinator.registry.admin
    await _ordered(
        coordinator,
        caller,
        node_id,
        f"admission {admission}",
        body.reason,
        lambda: admin.set_admission(node_id, admission, reason=body.reason, actor=caller.name),
    )
    return _shown(coordinator, caller, node_id)


async def cordon(node_id: str, coordinator: Coordinator, caller: Caller, body: CordonOrder) -> Response:
    """Needs an operator's token. The cordon ends at `until`, or when it is lifted."""
    until = time_from_text("until", body.until)
    await _ordered(
        coordinator,
        caller,
        node_id,
        "cordoned",
        body.reason,
        lambda: coordinator.registry.admin.cordon(node_id, reason=body.reason, actor=caller.name, until=until),
    )
    return _shown(coordinator, caller, node_id)


async def uncordon(node_id: str, coordinator: Coordinator, caller: Caller) -> Response:
    """Needs an operator's token."""
    await _ordered(
        coordinator,
        caller,
        node_id,
        "uncordoned",
        "",
        lambda: coordinator.registry.admin.uncordon(node_id, actor=caller.name),
    )
    return _shown(coordinator, caller, node_id)


async def attach_wallet(node_id: str, coordinator: Coordinator, caller: Caller, body: WalletProof) -> Response:
    """Needs an operator's token. Faults of the wallet's other proven nodes also count for this one; beyond the wallet's
    quota, a node on probation must wait.
    """
    check_proof(_known(coordinator, node_id), body.signature)  # refuse an invalid proof before logging
    admin = coordinator.registry.admin
    await _ordered(
        coordinator,
        caller,
        node_id,
        "wallet-proof",
        "",
        lambda: admin.attach_wallet(
            node_id, body.signature, actor=caller.name, quota=coordinator.settings.nodes_per_wallet
        ),
    )
    return json_response(reputation_to_plain(coordinator.registry.get_reputation(node_id)))


async def _ordered(
    coordinator: Coordinator, caller: Caller, node_id: str, action: str, reason: str, change: Callable[[], None]
) -> None:
    limits.displayable("reason", reason, "reason")
    if coordinator.registry.host.place(node_id) is None:
        raise UnknownNodeError(node_id)

    def logged() -> None:
        coordinator.audit.note(caller.name, action, node_id, reason=reason)
        change()

    await coordinator.commit_queue.run(logged)


def _known(coordinator: Coordinator, node_id: str) -> Node:
    node = coordinator.registry.get_node(node_id)
    if node is None:
        raise UnknownNodeError(node_id)
    return node


def _banned(coordinator: Coordinator, node_id: str) -> Node:
    """The node to ban; if its record is damaged, what can still be read of it."""
    found = coordinator.registry.host.remains(node_id)
    if found is None:
        raise UnknownNodeError(node_id)
    return found.node


def _shown(coordinator: Coordinator, caller: Caller, node_id: str) -> Response:
    return json_response(shown_node(_known(coordinator, node_id), caller, coordinator))
