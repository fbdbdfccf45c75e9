"""The fields of a node that queries and deadlines use, separate from its record, so that a start decodes no records.

This module derives the columns from a record and has the two packed texts. `table` indexes them, `storage` stores them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, Optional

from registry_core.models.addresses import WITHHELD_ADDRESS
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission, Cordon, Liveness, Scheduling

__all__ = [
    "Columns",
    "GpuGroup",
    "columns_of",
    "gpu_groups",
    "hundredths",
    "label_of_tag",
    "label_of_wallet",
    "labels",
    "record_of",
]

_BETWEEN_LABELS = "\x1f"  # no text field may contain control characters, so they can be separators
_WITHIN_LABEL = "\x1e"
_WALLET, _TAG = "w", "t"


class GpuGroup(NamedTuple):
    """Usable GPUs of one kind in one node. Vendor and model are lower case, as they are compared."""

    number: int
    vendor: str
    model: str
    memory_gb: float
    shared_memory_gb: float = 0.0


class Columns(NamedTuple):
    """The indexed fields of one node; plain values that any store can keep in columns of their own.

    `score` is the reputation in hundredths (0 to 500). `cordoned_until` is Unix seconds. `host_cpus` and
    `interval_seconds` are 0 if unknown. `gpus` (see `gpu_groups`) and `labels` (see `labels`: wallet and tags) are
    packed texts; **`labels` is private**: a store that encrypts must not keep it in clear.
    """

    node_id: str
    sequence: int
    score: int
    admission: str
    cordoned: bool
    cordoned_until: Optional[float]
    left: bool
    cpu_cores: int
    memory_gb: float
    storage_gb: float
    gpu_enabled: bool
    host_cpus: int
    interval_seconds: float
    gpus: str
    labels: str


def hundredths(score: float) -> int:
    """A score (0 to 5) rounded to 0.01, in hundredths: the unit in which scores are compared."""
    return round(score * 100)


def columns_of(record: NodeRecord) -> Columns:
    """The columns that follow from a record."""
    node = record.node
    offer = node.capabilities
    until = node.cordon.until if node.cordon is not None else None
    return Columns(
        node.id,
        record.sequence,
        hundredths(node.reputation),
        node.admission.value,
        node.scheduling is Scheduling.CORDONED,
        None if until is None else until.timestamp(),
        node.liveness is Liveness.LEFT,
        offer.cpu_cores,
        offer.memory_gb,
        offer.storage_gb,
        offer.gpu_enabled,
        offer.host_cpus or 0,
        record.interval_seconds or 0.0,
        _packed_gpus(offer) if offer.gpus else "",
        _packed_labels(node.wallet_address, node.tags) if node.wallet_address or node.tags else "",
    )


def record_of(columns: Columns) -> NodeRecord:
    """A record made from the columns of a node whose own record cannot be read. It has no address.

    A suspended or banned node stays so until an operator decides otherwise: the dates of its suspensions are lost.
    """
    marks = [label.split(_WITHIN_LABEL) for label in labels(columns.labels)]
    is_out = columns.admission in (Admission.SUSPENDED.value, Admission.BANNED.value)
    until = None if columns.cordoned_until is None else datetime.fromtimestamp(columns.cordoned_until, timezone.utc)
    node = Node(
        WITHHELD_ADDRESS,
        next((mark[1] for mark in marks if mark[0] == _WALLET), ""),
        NodeCapabilities(
            columns.cpu_cores,
            columns.memory_gb,
            columns.storage_gb,
            columns.gpu_enabled,
            host_cpus=columns.host_cpus or None,
        ),
        columns.node_id,
        tags={mark[1]: mark[2] for mark in marks if mark[0] == _TAG},
        reputation=columns.score / 100,
        admission=Admission(columns.admission),
        liveness=Liveness.LEFT if columns.left else Liveness.LIVE,
        scheduling=Scheduling.CORDONED if columns.cordoned else Scheduling.ELIGIBLE,
        cordon=Cordon(until=until) if columns.cordoned else None,
    )
    return NodeRecord(
        node,
        columns.sequence,
        interval_seconds=columns.interval_seconds or None,
        history=FrozenMap({"standing_by_operator": True} if is_out else {}),
    )


def gpu_groups(packed: str) -> tuple[GpuGroup, ...]:
    """The groups of usable GPUs in the column `gpus`."""
    return tuple(GpuGroup(*group) for group in json.loads(packed)) if packed else ()


def labels(packed: str) -> Iterator[str]:
    """The single labels in the column `labels`."""
    return iter(packed.split(_BETWEEN_LABELS)) if packed else iter(())


def label_of_wallet(wallet_address: str) -> str:
    """The label of every node with this wallet."""
    return _WALLET + _WITHIN_LABEL + wallet_address


def label_of_tag(key: str, value: str) -> str:
    """The label of every node with this tag."""
    return _WITHIN_LABEL.join((_TAG, key, value))


def _packed_gpus(offer: NodeCapabilities) -> str:
    counts: dict[tuple[Any, ...], int] = {}
    for gpu in offer.gpus:
        if gpu.usable:
            shared = (
                (gpu.shared_memory_gb,) if gpu.shared_memory_gb else ()
            )  # most have none, and neither do older texts
            kind = (gpu.vendor.lower(), gpu.model.lower(), gpu.memory_gb, *shared)
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        return ""
    return json.dumps([[counts[kind], *kind] for kind in sorted(counts)], separators=(",", ":"))


def _packed_labels(wallet_address: str, tags: Mapping[str, str]) -> str:
    every = [label_of_wallet(wallet_address)] if wallet_address else []
    every.extend(label_of_tag(key, value) for key, value in sorted(tags.items()))
    return _BETWEEN_LABELS.join(every)
