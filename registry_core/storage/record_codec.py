"""Records as plain JSON values and back, for every store that keeps text.

A stored record has more fields than the public shape of a node, and may have fields of newer versions of the registry.
Fields that a node sent and this version does not know are not among these: they are in the node's own map, `extra`.
Records of older layouts are read by `older_records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.encoding import cordon_from_plain, cordon_to_plain, node_from_plain, node_to_plain
from registry_core.models.frozen import FrozenMap, frozen_json_map, thawed
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.own_names import DERIVED_NAMES
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence
from registry_core.models.status import Liveness, NodeHealth
from registry_core.models.times import time_from_text, time_to_text
from registry_core.models.trusted import node_with, record_with
from registry_core.rules.liveness import MAX_INTERVAL_SECONDS
from registry_core.rules.reputation.stored_evidence import checked_history

__all__ = [
    "HIGHEST_SEQUENCE",
    "NEXT_SEQUENCE",
    "OWN",
    "TOP_LEVEL",
    "checked_proof",
    "checked_unknown",
    "is_read_back",
    "record_from_plain",
    "record_to_plain",
]

NEXT_SEQUENCE = -1
"""The `sequence` of a record that was read without one: the store assigns the next number."""

HIGHEST_SEQUENCE = 2**52
"""No registry reaches this number. If a file has a higher one, its records keep their order and are renumbered."""

OWN = tuple(item.name for item in fields(NodeRecord) if item.name != "node")
TOP_LEVEL = frozenset((*OWN, *(item.name for item in fields(Node)), *DERIVED_NAMES))
"""Every top-level name of a stored record."""

# Records inside the record. A list holds the shape of its items; None stands for a value of this version.
_SHAPE: dict[str, Any] = {
    "capabilities": {
        **{item.name: None for item in fields(NodeCapabilities)},
        "gpus": [{item.name: None for item in fields(Gpu)}],
    },
    "health": {
        "load_average": None,
        "memory_usage": None,
        "disk_usage": None,
        "last_heartbeat": None,
        "conditions": {"load": None, "memory": None, "disk": None},
    },
    "cordon": {"reason": None, "actor": None, "until": None},
}
_NO_HEALTH = NodeHealth()
_WHOLE: dict[str, Any] = {**dict.fromkeys(TOP_LEVEL), **_SHAPE}


def record_to_plain(record: NodeRecord, *, newer: bool = False) -> dict[str, Any]:
    """Every durable field. Omits health (a sample, which the store adds) and fields that follow from others.

    `newer`: fields of a later version are put back in their places; otherwise they stay together under `unknown`.
    """
    plain = node_to_plain(record.node)
    for name in ("health", "is_healthy", "is_ready"):
        del plain[name]
    if record.node.liveness is not Liveness.LEFT:
        del plain["liveness"]
    plain["sequence"] = record.sequence
    plain["evidence"] = {
        dimension: {"successes": evidence.successes, "failures": evidence.failures}
        for dimension, evidence in record.evidence.items()
    }
    if record.interval_seconds is not None:
        plain["interval_seconds"] = record.interval_seconds
    if record.host_state:
        plain["host_state"] = thawed(record.host_state)
    if record.history:
        plain["history"] = thawed(record.history)
    if record.wallet_proof:
        plain["wallet_proof"] = dict(record.wallet_proof)
    if record.unknown and newer:
        _put_back(plain, record.unknown)
    elif record.unknown:
        plain["unknown"] = thawed(record.unknown)
    return plain


def record_from_plain(plain: Mapping[str, Any], *, newer: bool = False) -> tuple[NodeRecord, NodeHealth]:
    """The record and the saved sample that a map describes. Raises ValidationError naming the field.

    `newer`: a later version wrote the map, so its unknown fields are kept wherever they are. Otherwise an unknown field
    is treated as one that the node sent (see `node_from_plain`), and is an error inside a nested record.
    """
    given, unknown = _split(plain, _WHOLE) if newer else (dict(plain), {})
    unknown = unknown or given.get("unknown", {})
    own = {name: given.pop(name) for name in OWN if name in given}
    node = node_from_plain(given)
    sample = node.health
    record = NodeRecord(
        node=node,
        sequence=limits.integer("sequence", own.get("sequence", NEXT_SEQUENCE), -1, 2**62),
        evidence=_evidence(own.get("evidence", {})),
        interval_seconds=limits.optional_number(
            "interval_seconds", own.get("interval_seconds"), 0.001, MAX_INTERVAL_SECONDS
        ),
        host_state=frozen_json_map("host_state", own.get("host_state", {})),
        history=checked_history(own.get("history", {})),
        unknown=checked_unknown(unknown),
        wallet_proof=checked_proof(own.get("wallet_proof", {})),
    )
    return record, sample


def checked_unknown(plain: object) -> FrozenMap[str, Any]:
    """The fields kept from a newer version: in the shape of the record, without any field of this version.

    Raises ValidationError.
    """
    unknown = frozen_json_map("unknown", plain)
    _refuse_known("unknown", unknown, _WHOLE)
    return unknown


def _refuse_known(place: str, unknown: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    for name, value in unknown.items():
        if name not in shapes:
            continue
        shape, within = shapes[name], f"{place}.{name}"
        if not isinstance(value, Mapping) or shape is None:
            raise ValidationError(within, value, "must not be a field of this version")
        if isinstance(shape, dict):
            _refuse_known(within, value, shape)
            continue
        for index, item in value.items():
            if not (index.isascii() and index.isdecimal() and len(index) < 7 and isinstance(item, Mapping)):
                raise ValidationError(within, value, "must map list indexes to fields")
            _refuse_known(f"{within}[{index}]", item, shape[0])


def checked_proof(plain: object) -> FrozenMap[str, str]:
    """The proof of a wallet as a record holds it; its signature is not verified here. Raises ValidationError."""
    if not isinstance(plain, Mapping) or plain.keys() not in (set(), {"wallet_address", "signature"}):
        raise ValidationError("wallet_proof", plain, "must have a wallet_address and a signature")
    return FrozenMap(
        {name: limits.text(f"wallet_proof.{name}", value, "wallet_proof") for name, value in plain.items()}
    )


def _evidence(plain: object) -> FrozenMap[str, Evidence]:
    if not isinstance(plain, Mapping):
        raise ValidationError("evidence", plain, "must map a dimension to its successes and failures")
    read = {}
    for dimension, counts in plain.items():
        name = f"evidence.{limits.text('evidence', dimension, 'tag key')}"
        if not isinstance(counts, Mapping) or not set(counts) <= {"successes", "failures"}:
            raise ValidationError(name, counts, "must be a map of successes and failures")
        read[dimension] = Evidence(
            limits.number(f"{name}.successes", counts.get("successes", 0.0), 0, limits.MAX_EVIDENCE),
            limits.number(f"{name}.failures", counts.get("failures", 0.0), 0, limits.MAX_EVIDENCE),
        )
    return FrozenMap(read)


def _taken_unknown(plain: dict[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Remove fields that no shape has from the nested records of `plain`; return them in the same structure."""
    unknown = {}
    for name, shape in shapes.items():
        value = plain.get(name)
        if isinstance(shape, dict) and isinstance(value, Mapping):
            plain[name], taken = _split(value, shape)
        elif isinstance(shape, list) and isinstance(value, list):
            parts = [_split(item, shape[0]) if isinstance(item, Mapping) else (item, {}) for item in value]
            plain[name] = [part[0] for part in parts]
            taken = {str(index): part[1] for index, part in enumerate(parts) if part[1]}
        else:
            continue
        if taken:
            unknown[name] = taken
    return unknown


def is_read_back(record: NodeRecord, again: NodeRecord) -> bool:
    """Whether `again`, which was read from the written form of `record`, has the same durable fields."""
    return again == record or again == _durable(record)


def _durable(record: NodeRecord) -> NodeRecord:
    """The record without fields that are not durable, and with times as exact as files store them."""
    node = record.node
    cordon = cordon_from_plain(cordon_to_plain(node.cordon))
    durable = node_with(
        node,
        health=_NO_HEALTH,
        liveness=node.liveness if node.liveness is Liveness.LEFT else Liveness.LIVE,
        registered_at=time_from_text("registered_at", time_to_text(node.registered_at)),
        cordon=cordon,
    )
    return record_with(record, node=durable)


def _split(value: Mapping[str, Any], shape: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {name: item for name, item in value.items() if name in shape}
    taken = {name: item for name, item in value.items() if name not in shape}
    taken.update(_taken_unknown(known, shape))
    return known, taken


def _put_back(plain: Any, unknown: Mapping[str, Any]) -> None:
    for name, value in unknown.items():
        if isinstance(plain, list):
            if int(name) < len(plain):
                _put_back(plain[int(name)], value)
        elif isinstance(value, Mapping) and isinstance(plain.get(name), (dict, list)):
            _put_back(plain[name], value)
        elif name not in plain:
            plain[name] = thawed(value)
