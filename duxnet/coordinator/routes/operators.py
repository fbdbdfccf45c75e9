"""Routes of raters and operators: outcomes of tasks, admission, cordons. Each is logged before it is done."""

from __future__ import annotations

from typing import Annotated, Any, Callable

import msgspec
from litestar import Request, Response, delete, post, put
from litestar.params import Body

from duxnet.coordinator.access.roles import Caller, Permission
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.documented import ERRORS
from duxnet.coordinator.http.messages import body_as
from duxnet.coordinator.http.openapi import NodeView, ReputationView
from duxnet.coordinator.routes.answers import answer_json, caller_of, shown_node
from registry_core.embedded.wallets import check_proof
from registry_core.errors import UnknownNodeError
from registry_core.models import limits
from registry_core.models.node import Node
from registry_core.models.status import Admission
from registry_core.models.times import time_from_text
from registry_core.rules.admission import AdmissionCommand, admission_after
from registry_core.rules.reputation import Outcome
from registry_core.wire.reputation import reputation_to_plain
from registry_core.wire.shapes import AdmissionChange, CordonOrder, TaskOutcome, WalletProof

__all__ = ["OPERATE_ROUTES"]

AnyRequest = Request[Any, Any, Any]


@post(
    "/v1/nodes/{node_id:str}/outcomes",
    status_code=200,
    responses=ERRORS,
    summary="Tell whether a task on the node succeeded",
    tags=["operate"],
)
async def tell_outcome(
    node_id: str,
    request: AnyRequest,
    coordinator: Coordinator,
    data: Annotated[TaskOutcome, Body()],  # noqa: ARG001 - documents the body, which is read strictly below
) -> Response[ReputationView]:
    """Needs the token of a rater or operator. A rater never rates nodes of its own wallet.

    `rater`: an operator names anybody; a rater nobody, or its own token as `token:ID`.
    """
    said = body_as(await request.body(), TaskOutcome)
    caller = caller_of(request, coordinator)
    caller.need(Permission.RATE)
    node = _known(coordinator, node_id)
    if caller.owns(node.wallet_address):
        raise Refused("not-allowed", "a rater may not rate nodes of its own wallet")
    Outcome(said.success, said.task_id, said.dimension, said.weight, said.rater).checked()  # before it is logged
    caller.need_to_speak_as(said.rater)
    registry = coordinator.registry

    def change() -> Any:
        details = {"success": str(said.success).lower(), "weight": f"{said.weight:g}"}
        details.update((name, text) for name, text in (("task_id", said.task_id), ("rater", said.rater)) if text)
        coordinator.audit.note(caller.name, "outcome", node_id, **details)
        return registry.update_node_reputation(
            node_id,
            said.success,
            task_id=said.task_id,
            dimension=said.dimension,
            weight=said.weight,
            rater=said.rater,
        )

    return answer_json(reputation_to_plain(await coordinator.commit_queue.run(change)), request)


@put(
    "/v1/nodes/{node_id:str}/admission",
    status_code=200,
    responses=ERRORS,
    summary="Approve, suspend or ban a node, or put it on probation",
    tags=["operate"],
)
async def change_admission(
    node_id: str,
    request: AnyRequest,
    coordinator: Coordinator,
    data: Annotated[AdmissionChange, Body()],  # noqa: ARG001 - documents the body, which is read strictly below
) -> Response[NodeView]:
    """Needs an operator's token. A ban works whatever the node's record holds."""
    said = body_as(await request.body(), AdmissionChange)
    caller = caller_of(request, coordinator)
    caller.need(Permission.OPERATE)
    admission = limits.choice("admission", said.admission, Admission)
    admin = coordinator.registry.admin
    commands: dict[Admission, tuple[AdmissionCommand, Callable[..., None]]] = {
        Admission.APPROVED: (AdmissionCommand.APPROVE, admin.approve),
        Admission.PROBATION: (AdmissionCommand.PUT_ON_PROBATION, admin.put_on_probation),
        Admission.SUSPENDED: (AdmissionCommand.SUSPEND, admin.suspend),
        Admission.BANNED: (AdmissionCommand.BAN, admin.ban),
    }
    if admission not in commands:
        raise Refused("invalid", "admission: no operator makes a node wait again; suspend it")
    said_as, command = commands[admission]
    node = _banned(coordinator, node_id) if admission is Admission.BANNED else _known(coordinator, node_id)
    admission_after(node.admission, said_as)  # what makes no sense is refused before it is logged
    await _ordered(
        coordinator,
        caller,
        node_id,
        f"admission {admission}",
        said.reason,
        lambda: command(node_id, reason=said.reason, actor=caller.name),
    )
    coordinator.sessions.forget(node_id)  # read anew: a banned node's session speaks no more
    return _shown(coordinator, caller, node_id)


@put(
    "/v1/nodes/{node_id:str}/cordon",
    status_code=200,
    responses=ERRORS,
    summary="Give a node no new work",
    tags=["operate"],
)
async def cordon(
    node_id: str,
    request: AnyRequest,
    coordinator: Coordinator,
    data: Annotated[CordonOrder, Body()],  # noqa: ARG001 - documents the body, which is read strictly below
) -> Response[NodeView]:
    """Needs an operator's token. Until `until`, or until the cordon is lifted."""
    said = body_as(await request.body(), CordonOrder)
    caller = caller_of(request, coordinator)
    caller.need(Permission.OPERATE)
    until = time_from_text("until", said.until)
    await _ordered(
        coordinator,
        caller,
        node_id,
        "cordoned",
        said.reason,
        lambda: coordinator.registry.admin.cordon(node_id, reason=said.reason, actor=caller.name, until=until),
    )
    return _shown(coordinator, caller, node_id)


@delete(
    "/v1/nodes/{node_id:str}/cordon",
    status_code=200,
    responses=ERRORS,
    summary="Let a node get work again",
    tags=["operate"],
)
async def uncordon(node_id: str, request: AnyRequest, coordinator: Coordinator) -> Response[NodeView]:
    """Needs an operator's token."""
    caller = caller_of(request, coordinator)
    caller.need(Permission.OPERATE)
    await _ordered(
        coordinator,
        caller,
        node_id,
        "uncordoned",
        "",
        lambda: coordinator.registry.admin.uncordon(node_id, actor=caller.name),
    )
    return _shown(coordinator, caller, node_id)


@put(
    "/v1/nodes/{node_id:str}/wallet-proof",
    status_code=200,
    responses=ERRORS,
    summary="Prove that a node belongs to its wallet",
    tags=["operate"],
)
async def attach_wallet(
    node_id: str,
    request: AnyRequest,
    coordinator: Coordinator,
    data: Annotated[WalletProof, Body()],  # noqa: ARG001 - documents the body, which is read strictly below
) -> Response[ReputationView]:
    """Needs an operator's token. The faults of the wallet's other proven nodes come along; beyond the wallet's quota a
    node on probation must wait.
    """
    said = body_as(await request.body(), WalletProof)
    caller = caller_of(request, coordinator)
    caller.need(Permission.OPERATE)
    check_proof(_known(coordinator, node_id), said.signature)  # what proves nothing is refused before it is logged
    admin = coordinator.registry.admin
    await _ordered(
        coordinator,
        caller,
        node_id,
        "wallet-proof",
        "",
        lambda: admin.attach_wallet(
            node_id, said.signature, actor=caller.name, quota=coordinator.settings.nodes_per_wallet
        ),
    )
    coordinator.sessions.forget(node_id)  # the wallet's past may have banned it
    return answer_json(reputation_to_plain(coordinator.registry.get_reputation(node_id)), request)


async def _ordered(
    coordinator: Coordinator, caller: Caller, node_id: str, action: str, reason: str, change: Callable[[], None]
) -> None:
    limits.text("reason", reason, "reason")
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
    """The node that shall be banned: where its record is damaged, what is left of it."""
    found = coordinator.registry.host.remains(node_id)
    if found is None:
        raise UnknownNodeError(node_id)
    return found[0]


def _shown(coordinator: Coordinator, caller: Caller, node_id: str) -> Response[NodeView]:
    body = msgspec.json.encode(shown_node(_known(coordinator, node_id), caller, coordinator))
    return Response(content=body, media_type="application/json")  # type: ignore[arg-type]  # encoded already


OPERATE_ROUTES = [tell_outcome, change_admission, cordon, uncordon, attach_wallet]
