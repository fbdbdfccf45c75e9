"""Decodes nodes from the network: fast, and with every field checked.

`node_from_plain` calls the constructor of every record, which checks field by field in Python: 40 to 80 µs per node.
Here msgspec checks types, ranges and lengths while it decodes; what it cannot express is checked for all texts of a
node at once; the records are then made without their constructors (`models.trusted`).

The fast path accepts only what is certainly valid. Anything else (a field of a newer version, a text in an unusual
form, a value out of bounds) takes the slow path through `node_from_plain`, which decides, and names the field and the
rule in its error. So the rules are in one place, and a property test checks that both paths agree.
"""

from __future__ import annotations

import itertools
import socket
from datetime import datetime, timezone
from typing import Annotated, Any, Optional, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType, structs

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.addresses import WITHHELD_ADDRESS, canonical_address
from registry_core.models.encoding import node_from_plain
from registry_core.models.frozen import FrozenMap
from registry_core.models.ids import key_from_text
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.status import (
    Admission,
    Condition,
    Conditions,
    Cordon,
    Liveness,
    NodeHealth,
    Scheduling,
)
from registry_core.models.trusted import unchecked

__all__ = ["LARGEST_NODE_BYTES", "decode_node"]

LARGEST_NODE_BYTES = 32 * 1024
"""The size limit of one node as JSON. A record has at most 16 KiB; the coordinator adds fields of its own."""

_Fields = list[tuple[str, Any, Any]]  # name, type, default


def _text(limit: str) -> Any:
    return Annotated[str, Meta(max_length=limits.MAX_TEXT_CHARACTERS[limit])]


def _number(least: float, most: float) -> Any:
    return Annotated[float, Meta(ge=least, le=most)]


def _integer(least: int, most: int) -> Any:
    return Annotated[int, Meta(ge=least, le=most)]


def _sequence(item: Any, most: int) -> Any:
    return Annotated[tuple[item, ...], Meta(max_length=most)]


def _given_or_absent(shape: Any) -> Any:
    """A map that may be absent; null is not allowed."""
    return Union[shape, UnsetType]


def _shape(name: str, fields: _Fields) -> Any:
    """The struct that msgspec decodes a map into. An unknown field is an error, so it takes the slow path."""
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True)


_Address = Annotated[str, Meta(max_length=64)]
_Time = Annotated[datetime, Meta(tz=True)]
_TagKey = Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT_CHARACTERS["tag key"])]
_TagValue = Annotated[str, Meta(max_length=limits.MAX_TEXT_CHARACTERS["tag value"])]
_Tags = Annotated[dict[_TagKey, _TagValue], Meta(max_length=limits.MAX_TAGS)]

_GPU_TEXTS = ("vendor", "model", "uuid", "driver_version", "reason")
_GPU = _shape(
    "_Gpu",
    [
        *((name, _text(f"gpu.{name}"), "") for name in _GPU_TEXTS),
        ("memory_gb", _number(0, limits.MAX_GPU_MEMORY_GB), 0.0),
        ("usable", bool, True),
    ],
)
_OFFER_TEXTS = ("cpu_model", "architecture", "kernel")
_OFFER = _shape(
    "_Offer",
    [
        ("cpu_cores", _integer(0, limits.MAX_CPUS), 0),
        ("memory_gb", _number(0, limits.MAX_MEMORY_GB), 0.0),
        ("storage_gb", _number(0, limits.MAX_STORAGE_GB), 0.0),
        ("gpu_enabled", Optional[bool], None),
        ("gpus", _sequence(_GPU, limits.MAX_GPUS), ()),
        ("cpu_quota", Optional[Annotated[float, Meta(gt=0, le=limits.MAX_CPUS)]], None),
        ("host_cpus", Optional[_integer(1, limits.MAX_CPUS)], None),
        ("physical_cores", Optional[_integer(1, limits.MAX_CPUS)], None),
        *((name, _text(name), "") for name in _OFFER_TEXTS),
    ],
)
_CONDITIONS = _shape("_Conditions", [(gauge, Condition, Condition.UNKNOWN) for gauge in ("load", "memory", "disk")])
_HEALTH = _shape(
    "_Health",
    [
        ("load_average", Optional[_number(0, limits.MAX_LOAD_AVERAGE)], None),
        ("memory_usage", Optional[_number(0, 100)], None),
        ("disk_usage", Optional[_number(0, 100)], None),
        ("last_heartbeat", Optional[_Time], None),
        ("conditions", _given_or_absent(_CONDITIONS), UNSET),
    ],
)
_CORDON = _shape(
    "_Cordon", [("reason", _text("reason"), ""), ("actor", _text("actor"), ""), ("until", Optional[_Time], None)]
)
_NODE_TEXTS = ("wallet_address", "hostname", "os_version", "agent_version", "admission_reason")
_NODE = _shape(
    "_Node",
    [
        ("ip_address", _Address, WITHHELD_ADDRESS),
        ("wallet_address", _text("wallet_address"), ""),
        ("capabilities", _given_or_absent(_OFFER), UNSET),
        ("id", _text("id"), ""),
        ("addresses", _sequence(_Address, limits.MAX_ADDRESSES), ()),
        ("port", Optional[_integer(1, 65535)], None),
        ("hostname", _text("hostname"), ""),
        ("os_version", _text("os_version"), ""),
        ("agent_version", _text("agent_version"), ""),
        ("public_key", _text("public_key"), ""),
        ("tags", _Tags, {}),
        ("health", _given_or_absent(_HEALTH), UNSET),
        ("reputation", _number(0, 5), 0.0),
        ("registered_at", Optional[_Time], None),
        ("admission", Admission, Admission.PROBATION),
        ("admission_reason", _text("reason"), ""),
        ("liveness", Liveness, Liveness.LIVE),
        ("scheduling", Scheduling, Scheduling.ELIGIBLE),
        ("cordon", Optional[_CORDON], None),
        ("is_healthy", bool, True),
        ("is_ready", bool, True),
    ],
)  # fmt: skip
_decode = msgspec.json.Decoder(_NODE).decode
_NO_EXTRA: FrozenMap[str, Any] = FrozenMap()
_NO_OFFER = NodeCapabilities()
_NO_HEALTH = NodeHealth()
_CONDITIONS_OF = {gauges: Conditions(*gauges) for gauges in itertools.product(Condition, repeat=3)}


class _UnsureError(Exception):
    """The fast path does not accept this."""


def decode_node(text: bytes) -> Node:
    """The node that a JSON text describes; `ip_address` is WITHHELD_ADDRESS where the text has none.

    Raises ValidationError naming the field, and msgspec.MsgspecError for text that is not JSON.
    """
    if len(text) > LARGEST_NODE_BYTES:
        raise ValidationError("node", len(text), f"must have at most {LARGEST_NODE_BYTES} bytes")
    try:
        return _quickly(structs.asdict(_decode(text)))
    except (msgspec.ValidationError, _UnsureError):
        return _checked(msgspec.json.decode(text))


def _checked(plain: object) -> Node:
    if not isinstance(plain, dict):
        raise ValidationError("node", plain, "must be a map of fields")
    if not plain.get("id"):
        raise ValidationError("id", plain.get("id"), "must be given")
    plain.setdefault("ip_address", WITHHELD_ADDRESS)
    return node_from_plain(plain)


def _quickly(fields: dict[str, Any]) -> Node:
    """Turn the fields of `_NODE` into those of a `Node`, in place."""
    texts = [fields[name] for name in _NODE_TEXTS]
    del fields["is_healthy"], fields["is_ready"]
    limits.identifier("id", fields["id"])
    fields["ip_address"] = _address("ip_address", fields["ip_address"])
    if fields["addresses"]:
        fields["addresses"] = tuple([_address("addresses", address) for address in fields["addresses"]])
    if fields["public_key"]:
        key_from_text("public_key", fields["public_key"])
    tags = fields["tags"]
    texts += tags
    texts += tags.values()
    fields["tags"] = FrozenMap(tags)
    offer = fields["capabilities"]
    fields["capabilities"] = _NO_OFFER if offer is UNSET else _offer(structs.asdict(offer), texts)
    health = fields["health"]
    fields["health"] = _NO_HEALTH if health is UNSET else _health(structs.asdict(health))
    fields["registered_at"] = _utc(fields["registered_at"])
    if fields["cordon"] is not None:
        cordon = structs.asdict(fields["cordon"])
        texts += (cordon["reason"], cordon["actor"])
        cordon["until"] = _utc(cordon["until"])
        fields["cordon"] = unchecked(Cordon, cordon)
    if not limits.are_plain(texts):
        raise _UnsureError
    fields["extra"] = _NO_EXTRA
    return unchecked(Node, fields)


def _offer(fields: dict[str, Any], texts: list[str]) -> NodeCapabilities:
    texts += [fields[name] for name in _OFFER_TEXTS]
    usable = False
    if fields["gpus"]:
        gpus = []
        for shape in fields["gpus"]:
            gpu = structs.asdict(shape)
            texts += [gpu[name] for name in _GPU_TEXTS]
            if gpu["usable"] and gpu["reason"]:
                raise _UnsureError
            usable = usable or gpu["usable"]
            gpus.append(unchecked(Gpu, gpu))
        fields["gpus"] = tuple(gpus)
        if fields["gpu_enabled"] is not None and fields["gpu_enabled"] is not usable:
            raise _UnsureError
    if fields["gpu_enabled"] is None:
        fields["gpu_enabled"] = usable
    return unchecked(NodeCapabilities, fields)


def _health(fields: dict[str, Any]) -> NodeHealth:
    fields["last_heartbeat"] = _utc(fields["last_heartbeat"])
    found = fields["conditions"]
    if found is UNSET:
        fields["conditions"] = _NO_HEALTH.conditions
    else:
        fields["conditions"] = _CONDITIONS_OF[found.load, found.memory, found.disk]
    return unchecked(NodeHealth, fields)


def _utc(moment: Optional[datetime]) -> Optional[datetime]:
    if moment is None or moment.tzinfo is timezone.utc:
        return moment
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise _UnsureError from None


def _address(field: str, value: str) -> str:
    """As `canonical_address`, but fast for IPv6 addresses that are canonical already, as nearly all are (7 µs less)."""
    if ":" in value and "." not in value and not value.startswith((":", "ff")):  # neither mapped, nor ::, nor multicast
        try:
            if socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, value)) == value:
                return value
        except (OSError, ValueError):
            raise _UnsureError from None
    return canonical_address(field, value)
