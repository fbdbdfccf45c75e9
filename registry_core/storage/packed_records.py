"""One record as bytes, for stores that keep records one by one: JSON without the fields at their default.

This costs about a fifth of `record_codec`. The bytes have a checksum or a seal, and were packed from a constructed
record, so reading checks names and types but no ranges. Records of newer versions are read by `record_codec`, which
keeps their unknown fields; those of older layouts by `older_records`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, Callable, NamedTuple, Union, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from registry_core.models.encoding import cordon_from_plain, cordon_to_plain
from registry_core.models.frozen import FrozenMap, frozen_json_map
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence
from registry_core.models.status import Liveness
from registry_core.models.times import time_from_text, time_to_text
from registry_core.rules.reputation.evidence import stored_history
from registry_core.storage.record_codec import checked_proof, checked_unknown, record_from_plain
from registry_core.storage.tombstones import (
    StoredTombstone,
    TombstoneKey,
    tombstone_from_plain,
    tombstone_to_plain,
)

__all__ = ["evidence_by_name", "pack", "pack_tombstone", "unpack", "unpack_tombstone"]

_encode = msgspec.json.Encoder().encode
_decode_map = msgspec.json.Decoder(dict[str, Any]).decode
_new = object.__new__


def _defaults(kind: type[Any], sample: object) -> dict[str, Any]:
    return {item.name: getattr(sample, item.name) for item in fields(kind)}


_NODE = {**_defaults(Node, Node(ip_address="::1", id="0")), "ip_address": None, "id": None}
_OFFER = _defaults(NodeCapabilities, NodeCapabilities())
_GPU = _defaults(Gpu, Gpu())
_PLAIN_NODE = tuple((name, default) for name, default in _NODE.items() if name != "health")  # samples are kept apart
_PLAIN_OFFER = tuple(_OFFER.items())
_PLAIN_GPU = tuple(_GPU.items())
_node_values = attrgetter(*(name for name, _default in _PLAIN_NODE))  # reading `__dict__` would enlarge the record
_offer_values = attrgetter(*_OFFER)
_gpu_values = attrgetter(*_GPU)


def pack(record: NodeRecord) -> bytes:
    """The record as JSON in UTF-8, without fields at their default."""
    node = record.node
    plain = _beyond(_PLAIN_NODE, _node_values(node))
    if node.capabilities is not _NODE["capabilities"]:
        plain["capabilities"] = _plain_offer(node.capabilities)
    for name, to_plain in _TO_PLAIN:
        if name in plain:
            plain[name] = to_plain(plain[name])
    if node.liveness is not Liveness.LEFT:
        plain.pop("liveness", None)  # of liveness only `left` is durable
    plain["sequence"] = record.sequence
    if record.evidence:
        plain["evidence"] = {name: [item.successes, item.failures] for name, item in record.evidence.items()}
    if record.interval_seconds is not None:
        plain["interval_seconds"] = record.interval_seconds
    for name in ("host_state", "history", "unknown", "wallet_proof"):
        value = getattr(record, name)
        if value:
            plain[name] = value
    return _encode(plain)


def unpack(packed: bytes, *, newer: bool = False) -> NodeRecord:
    """The record that `pack` wrote. Raises ValueError (ValidationError is one) for anything else.

    `newer`: a later version wrote it; everything is checked, and unknown fields are kept.
    """
    try:
        if newer:
            return record_from_plain(evidence_by_name(_decode_map(packed)), newer=True)[0]
        return _unpacked(_decode(packed))
    except (msgspec.MsgspecError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None  # MsgspecError is a ValueError in newer versions of msgspec only


def evidence_by_name(plain: dict[str, Any]) -> dict[str, Any]:
    """A packed record's map with its evidence as `record_from_plain` reads it: by name, not as pairs."""
    evidence = plain.get("evidence", {})
    if isinstance(evidence, dict):
        plain["evidence"] = {
            name: {"successes": item[0], "failures": item[1]} if isinstance(item, list) and len(item) == 2 else item
            for name, item in evidence.items()
        }
    return plain


def pack_tombstone(tombstone: StoredTombstone) -> bytes:
    """The tombstone as bytes, for stores that keep tombstones one by one."""
    return _encode(tombstone_to_plain(tombstone))


def unpack_tombstone(key: TombstoneKey, packed: bytes, *, newer: bool = False) -> StoredTombstone:
    """The tombstone that `pack_tombstone` wrote. Raises ValueError."""
    try:
        return tombstone_from_plain(key, _decode_map(packed), newer=newer)
    except (msgspec.MsgspecError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


class _Shape(NamedTuple):
    """How a record is read: the struct that msgspec decodes, its fields, and a getter of their values."""

    stored: type[Any]
    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]

    @classmethod
    def of(cls, name: str, types: Mapping[str, Any], required: tuple[str, ...] = ()) -> _Shape:
        """A shape with exactly these fields."""
        members: list[Any] = [(field, types[field]) for field in required]
        members += [(field, Union[kind, UnsetType], UNSET) for field, kind in types.items() if field not in required]
        stored = msgspec.defstruct(name, members, forbid_unknown_fields=True)
        names = stored.__struct_fields__
        return cls(stored, names, attrgetter(*names))

    def given(self, stored: Any) -> dict[str, Any]:
        """The fields that were present."""
        return {name: value for name, value in zip(self.names, self.values(stored)) if value is not UNSET}


def _types(kind: type[Any], **instead: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: instead.get(item.name, hints[item.name]) for item in fields(kind)}


_TUPLE: Any = tuple  # hides types that are made at run time from the type checker
_STORED_GPU = _Shape.of("StoredGpu", _types(Gpu))
_STORED_OFFER = _Shape.of("StoredOffer", _types(NodeCapabilities, gpus=_TUPLE[_STORED_GPU.stored, ...]))
_NODE_TYPES = _types(
    Node, capabilities=_STORED_OFFER.stored, registered_at=str, cordon=dict[str, Any], extra=dict[str, Any]
)
del _NODE_TYPES["health"]
_RECORD_TYPES = _types(NodeRecord, evidence=dict[str, tuple[float, float]], history=dict[str, Any])
del _RECORD_TYPES["node"]
_STORED = _Shape.of("StoredRecord", {**_NODE_TYPES, **_RECORD_TYPES}, ("ip_address", "id", "sequence"))
_OWN = tuple(_RECORD_TYPES)
_decode = msgspec.json.Decoder(_STORED.stored).decode


def _unpacked(stored: Any) -> NodeRecord:
    plain = _STORED.given(stored)
    own = {name: plain.pop(name) for name in _OWN if name in plain}
    for name, from_plain in _FROM_PLAIN:
        if name in plain:
            plain[name] = from_plain(plain[name])
    node = _new(Node)
    node.__dict__.update(_NODE)
    node.__dict__.update(plain)
    evidence = own.get("evidence")
    record = _new(NodeRecord)
    record.__dict__.update(
        node=node,
        sequence=own["sequence"],
        evidence=FrozenMap({name: Evidence(*pair) for name, pair in evidence.items()}) if evidence else _NOTHING,
        interval_seconds=own.get("interval_seconds"),
        host_state=frozen_json_map("host_state", own["host_state"]) if "host_state" in own else _NOTHING,
        history=stored_history(own["history"]) if "history" in own else _NOTHING,
        unknown=checked_unknown(own["unknown"]) if "unknown" in own else _NOTHING,
        wallet_proof=checked_proof(own["wallet_proof"]) if "wallet_proof" in own else _NOTHING,
    )
    return record


_NOTHING: FrozenMap[str, Any] = FrozenMap()


def _beyond(defaults: tuple[tuple[str, Any], ...], values: tuple[Any, ...]) -> dict[str, Any]:
    """The fields whose value is not the default."""
    return {name: value for (name, default), value in zip(defaults, values) if value != default}


def _plain_offer(offer: NodeCapabilities) -> dict[str, Any]:
    plain = _beyond(_PLAIN_OFFER, _offer_values(offer))
    if offer.gpus:
        plain["gpus"] = [_beyond(_PLAIN_GPU, _gpu_values(gpu)) for gpu in offer.gpus]
    return plain


def _offer(stored: Any) -> NodeCapabilities:
    plain = _STORED_OFFER.given(stored)
    if "gpus" in plain:
        plain["gpus"] = tuple(_filled(Gpu, _GPU, _STORED_GPU.given(gpu)) for gpu in plain["gpus"])
    offer: NodeCapabilities = _filled(NodeCapabilities, _OFFER, plain)
    return offer


def _filled(kind: type[Any], defaults: Mapping[str, Any], plain: Mapping[str, Any]) -> Any:
    record = _new(kind)
    record.__dict__.update(defaults)
    record.__dict__.update(plain)
    return record


_TO_PLAIN: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("addresses", list),
    ("tags", dict),
    ("registered_at", time_to_text),
    ("admission", str),
    ("scheduling", str),
    ("liveness", str),
    ("cordon", cordon_to_plain),
)
_FROM_PLAIN: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("capabilities", _offer),
    ("tags", FrozenMap),
    ("registered_at", lambda text: time_from_text("registered_at", text)),
    ("cordon", cordon_from_plain),
    ("extra", lambda plain: frozen_json_map("extra", plain)),
)
