"""The record after a registration: the node's description comes from the node, everything else from the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Optional

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.encoding import node_to_plain
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission, Liveness, NodeHealth, Scheduling
from registry_core.models.trusted import node_given

__all__ = ["Terms", "registered"]

_NO_HEALTH = NodeHealth()


class Terms(NamedTuple):
    """The host's terms for a registration: its data about the node (None: unchanged) and why the node must wait."""

    host_state: Optional[FrozenMap[str, Any]] = None
    pending_reason: str = ""


_NO_TERMS = Terms()


def registered(
    node: Node,
    before: Optional[NodeRecord],
    *,
    at: datetime,
    sequence: int,
    newcomer_score: float,
    interval_seconds: Optional[float] = None,
    terms: Terms = _NO_TERMS,
) -> NodeRecord:
    """The record after `node` registers at `at`; `before` is its present record, if any.

    `sequence` and `newcomer_score` are used for a new node. Raises ValidationError for a record above 16 KiB and for
    text with invisible characters.
    """
    _refuse_hidden(node)
    _refuse_large(node)
    if before is None:
        newcomer = node_given(
            node,
            health=_NO_HEALTH,
            reputation=newcomer_score,
            registered_at=at,
            admission=Admission.PENDING if terms.pending_reason else Admission.PROBATION,
            admission_reason=terms.pending_reason,
            liveness=Liveness.LIVE,
            scheduling=Scheduling.ELIGIBLE,
            cordon=None,
        )
        return NodeRecord(
            newcomer, sequence, interval_seconds=interval_seconds, host_state=terms.host_state or FrozenMap()
        )
    kept = before.node
    known = node_given(
        node,
        health=_NO_HEALTH,
        reputation=kept.reputation,
        registered_at=kept.registered_at or at,
        admission=kept.admission,
        admission_reason=kept.admission_reason,
        liveness=Liveness.LIVE,
        scheduling=kept.scheduling,
        cordon=kept.cordon,
        extra=node.extra or kept.extra,
    )
    return NodeRecord(
        known,
        before.sequence,
        evidence=before.evidence,
        interval_seconds=before.interval_seconds if interval_seconds is None else interval_seconds,
        host_state=before.host_state if terms.host_state is None else terms.host_state,
        history=before.history,
        unknown=_still_true(before, node),
        wallet_proof=before.wallet_proof if node.wallet_address == kept.wallet_address else FrozenMap(),
    )


def _still_true(before: NodeRecord, node: Node) -> Mapping[str, Any]:
    """The unknown fields that a newer version wrote; those of GPUs only while the GPUs are the same."""
    offer = before.unknown.get("capabilities")
    if not offer or "gpus" not in offer or node.capabilities.gpus == before.node.capabilities.gpus:
        return before.unknown
    others = {name: value for name, value in offer.items() if name != "gpus"}
    return FrozenMap({**before.unknown, "capabilities": FrozenMap(others)})


_TEXTS = ("wallet_address", "hostname", "os_version", "agent_version")
_OFFER_TEXTS = ("cpu_model", "architecture", "kernel")
_GPU_TEXTS = ("vendor", "model", "uuid", "driver_version", "reason")


def _refuse_hidden(node: Node) -> None:
    """Raise ValidationError for text with invisible characters, in values or names of fields."""
    offer = node.capabilities
    texts = [(name, getattr(node, name)) for name in _TEXTS]
    texts += [(f"capabilities.{name}", getattr(offer, name)) for name in _OFFER_TEXTS]
    for index, gpu in enumerate(offer.gpus):
        texts += [(f"capabilities.gpus[{index}].{name}", getattr(gpu, name)) for name in _GPU_TEXTS]
    for key, value in node.tags.items():
        texts += (("tags", key), (f"tags.{key}", value))
    for field, text in texts:
        if not text.isascii():  # ASCII text was checked for control characters when the node was constructed
            limits.refuse_hidden(field, text)
    if node.extra:
        _refuse_hidden_json("extra", node.extra)


def _refuse_hidden_json(field: str, value: object) -> None:
    if isinstance(value, str):
        limits.refuse_hidden(field, value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            limits.refuse_hidden(field, name)
            _refuse_hidden_json(f"{field}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_hidden_json(f"{field}[{index}]", item)


def _refuse_large(node: Node) -> None:
    few = len(node.tags) <= 4 and len(node.capabilities.gpus) <= 8 and len(node.addresses) <= 16
    if few and not node.extra:
        return  # the limits of the fields keep such a record far below the limit
    size = len(json.dumps(node_to_plain(node), ensure_ascii=False).encode("utf-8"))
    if size > limits.MAX_RECORD_BYTES:
        raise ValidationError("node", f"a record of {size} bytes", f"must be at most {limits.MAX_RECORD_BYTES} bytes")
