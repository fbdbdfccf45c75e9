"""Reads and writes the text of a JSON registry: reads it strictly, writes it so that people can edit it.

A file written by hand is accepted too: a list of nodes, or a map from id to node, with or without ids. Errors name the
path and the place in the file. `json_file` decides when the file is read or replaced.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Callable, NamedTuple, NoReturn, Optional

import msgspec

from registry_core.errors import DamagedStoreError, UnsupportedSchemaError, ValidationError, shown
from registry_core.models import limits
from registry_core.models.columns import columns_of
from registry_core.models.encoding import health_to_plain
from registry_core.models.frozen import frozen_json_map
from registry_core.models.record import NodeRecord
from registry_core.models.status import Conditions, Liveness, NodeHealth, Sampled
from registry_core.models.trusted import health_sample, node_with, record_with
from registry_core.rules.reputation import NEWCOMER_SCORE, reputation_of
from registry_core.rules.reputation.stored_evidence import state_of
from registry_core.storage.record_codec import (
    HIGHEST_SEQUENCE,
    NEXT_SEQUENCE,
    is_read_back,
    record_from_plain,
    record_to_plain,
)
from registry_core.storage.store import Put
from registry_core.storage.tombstones import (
    NODE,
    WALLET,
    HeldTombstones,
    StoredTombstone,
    TombstoneKey,
    tombstone_from_plain,
    tombstone_to_plain,
    tombstones_of_rings,
)

__all__ = ["SCHEMA", "FileContent", "NodeTexts", "check_read_back", "read_content"]

SCHEMA = "duxnet.nodes/1.1"
_MAJOR, _MINOR = 1, 1
_SCHEMA_FORM = re.compile(r"duxnet\.nodes/([0-9]{1,9})\.([0-9]{1,9})\Z")
_NO_SAMPLE = NodeHealth()


class FileContent(NamedTuple):
    """The content of a file. `beside` holds fields of the file, not of a node, that this version does not know.

    `down` holds the nodes whose saved `liveness` is "down"; "left" is part of the record itself. `older` is the schema
    of a file that an earlier version wrote, else ""; `dropped` lists the fields of such a file's nodes that were
    dropped.
    """

    puts: dict[str, Put]
    samples: dict[str, NodeHealth]
    meta: dict[str, str]
    schema: str = SCHEMA
    beside: Mapping[str, Any] = {}
    down: Set[str] = frozenset()
    older: str = ""
    dropped: Mapping[str, Sequence[str]] = {}
    removed: HeldTombstones = HeldTombstones()


class NodeTexts:
    """Makes the file's text from the encoded text of each node; only changed nodes are encoded again."""

    def __init__(self) -> None:
        self._nodes: dict[str, msgspec.Raw] = {}
        self._removed: dict[TombstoneKey, tuple[StoredTombstone, msgspec.Raw]] = {}

    def forget(self, node_id: str) -> None:
        """Encode this node again: its record or sample changed."""
        self._nodes.pop(node_id, None)

    def clear(self) -> None:
        """Encode every node again."""
        self._nodes.clear()

    def file(self, content: FileContent) -> bytes:
        """The whole file: schema first, nodes last, in order of registration."""
        ordered = sorted(content.puts.values(), key=lambda put: put.columns.sequence)
        newer = content.schema != SCHEMA
        whole: dict[str, Any] = {"schema": content.schema, **content.beside, "meta": content.meta}
        if len(content.removed):
            whole["removed"] = self._all_removed(content.removed)
        whole["nodes"] = [self._node(put, content, newer=newer) for put in ordered]
        return msgspec.json.format(_encode(whole), indent=2) + b"\n"

    def _node(self, put: Put, content: FileContent, *, newer: bool) -> msgspec.Raw:
        node_id = put.columns.node_id
        raw = self._nodes.get(node_id)
        if raw is None:
            plain = record_to_plain(put.record, newer=newer)
            if node_id in content.down:
                plain.setdefault("liveness", Liveness.DOWN.value)
            if node_id in content.samples:
                sample = health_to_plain(content.samples[node_id])
                del sample["conditions"]  # they are evaluated again when the file is read
                plain["health"] = {**sample, **plain.get("health", {})}
            raw = self._nodes[node_id] = msgspec.Raw(_encode(plain))
        return raw

    def _all_removed(self, tombstones: HeldTombstones) -> dict[str, dict[str, msgspec.Raw]]:
        """The tombstones' texts by kind and key."""
        encoded: dict[TombstoneKey, tuple[StoredTombstone, msgspec.Raw]] = {}
        by_kind: dict[str, dict[str, msgspec.Raw]] = {}
        for tombstone in tombstones:
            key = tombstone.key
            known = self._removed.get(key)
            if known is None or known[0] is not tombstone:
                known = tombstone, msgspec.Raw(_encode(tombstone_to_plain(tombstone)))
            encoded[key] = known
            by_kind.setdefault(key.kind, {})[key.key] = known[1]
        self._removed = encoded
        return by_kind


_encode = msgspec.json.Encoder().encode


def check_read_back(location: str, record: NodeRecord, schema: str) -> None:
    """Raises DamagedStoreError for a record that a file of this schema would not return unchanged."""
    newer = schema != SCHEMA
    try:
        plain = record_to_plain(record, newer=newer)
        again = _parsed(location, json.dumps(plain, allow_nan=False).encode("utf-8"))
        if is_read_back(record, record_from_plain(again, newer=newer)[0]):
            return
        why = "reading it back would give a different record"
    except (ValueError, ArithmeticError, TypeError) as error:
        why = str(error)
    raise DamagedStoreError(location, f"the record of node {record.node.id!a} cannot be stored: {why}", record.node.id)


def read_content(location: str, raw: bytes) -> FileContent:
    """The content that the bytes of a file hold. Raises DamagedStoreError or UnsupportedSchemaError."""
    try:
        return _content(location, _parsed(location, raw))
    except ValidationError as error:
        raise DamagedStoreError(location, str(error)) from None


def _parsed(location: str, raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedStoreError(location, f"byte {error.start} is not UTF-8") from None
    if not text.strip():
        raise DamagedStoreError(location, "the file is empty; write [] for a registry without nodes")
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise DamagedStoreError(
            location, f"line {error.lineno}, column {error.colno}: {error.msg} (is the file cut off?)"
        ) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        names = [name for name, _value in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValidationError(shown(repeated), plain[repeated], "must not be repeated in the same object")
    return plain


def _no_constant(word: str) -> NoReturn:
    raise ValidationError("number", word, "must be a finite number: JSON has no NaN and no Infinity")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValidationError("number", text, "must be a number in the range of JSON numbers")
    return value


def _integer(text: str) -> int:
    if len(text) > 100:  # Python rejects thousands of digits only after a slow conversion, with an error of its own
        raise ValidationError("number", text, "must have at most 100 digits")
    return int(text)


def _content(location: str, document: Any) -> FileContent:
    schema, newer, older, beside = SCHEMA, False, "", {}
    meta: object = {}
    removed: object = {}
    nodes = document
    if isinstance(document, dict):
        schema, newer, older = _schema(location, document)
        if "nodes" in document:
            own = ("schema", "meta", "removed", "nodes")
            beside = {name: value for name, value in document.items() if name not in own}
            frozen_json_map("file", {**beside, "meta": document.get("meta", {})})  # so that a commit can write it
            removed = document.get("removed", {})
            meta, nodes = document.get("meta", {}), document["nodes"]
        elif "schema" in document and not isinstance(document["schema"], dict):
            raise ValidationError("nodes", None, "must be given: a list of nodes")
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise ValidationError("meta", meta, "must map text to text")
    tombstones = _read_removed(removed, newer=newer)
    if older:
        of_rings, meta = tombstones_of_rings(location, meta, time.time())
        tombstones += of_rings
    puts: dict[str, Put] = {}
    samples: dict[str, NodeHealth] = {}
    down: set[str] = set()
    dropped: dict[str, Sequence[str]] = {}
    arranged = _as_today(dropped) if older else dict
    for record, (node_id, sample, is_down) in _in_order(_read_nodes(nodes, arranged, newer=newer)):
        puts[node_id] = Put(record, columns_of(record))
        if is_down:
            down.add(node_id)
        if sample != _NO_SAMPLE:
            samples[node_id] = health_sample(
                sample.load_average, sample.memory_usage, sample.disk_usage, sample.last_heartbeat, Conditions()
            )
    return FileContent(puts, samples, meta, schema, beside, down, older, dropped, HeldTombstones(tombstones))


def _read_removed(plain: object, *, newer: bool) -> list[StoredTombstone]:
    if not isinstance(plain, dict) or not all(isinstance(of_kind, dict) for of_kind in plain.values()):
        raise ValidationError("removed", plain, "must map a kind to a map from key to tombstone")
    unknown = None if newer else next((kind for kind in plain if kind not in (NODE, WALLET)), None)
    if unknown is not None:
        raise ValidationError("removed", unknown, f"must be of the kinds {NODE} and {WALLET}")
    found = []
    for kind, of_kind in plain.items():
        for key, one in of_kind.items():
            place = f"removed.{kind}.{_short(key)}"
            try:
                name = limits.identifier("key", key)
                found.append(tombstone_from_plain(TombstoneKey(kind, name), one, newer=newer))
            except ValidationError as error:
                raise error.within(place) from None
    return found


def _as_today(dropped: dict[str, Sequence[str]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that converts a node of an older file to today's layout, and notes dropped fields in `dropped`."""
    from registry_core.storage.older_records import of_older_layout

    def arranged(plain: dict[str, Any]) -> dict[str, Any]:
        found = of_older_layout(plain)
        if found.dropped:
            dropped[str(plain.get("id", ""))] = found.dropped
        return found.plain

    return arranged


def _schema(location: str, document: dict[str, Any]) -> tuple[str, bool, str]:
    """The schema to write, whether the file's is newer, and the file's own if that is older."""
    if "schema" not in document or isinstance(document["schema"], dict):  # a map of nodes, one of which has this id
        return SCHEMA, False, ""
    found = document["schema"]
    form = _SCHEMA_FORM.match(found) if isinstance(found, str) else None
    supported = f"duxnet.nodes/{_MAJOR}.x"
    if form is None or int(form[1]) != _MAJOR:
        raise UnsupportedSchemaError(location, found if isinstance(found, str) else shown(found), supported)
    minor = int(form[2])
    newer = minor > _MINOR
    return (found if newer else SCHEMA), newer, (found if minor < _MINOR else "")


def _read_nodes(
    nodes: object, arranged: Callable[[dict[str, Any]], dict[str, Any]], *, newer: bool
) -> Iterator[tuple[str, NodeRecord, Sampled]]:
    if isinstance(nodes, list):
        items = [(f"nodes[{index}]", item, None) for index, item in enumerate(nodes)]
    elif isinstance(nodes, dict):
        items = [(f"nodes.{_short(key)}", item, key) for key, item in nodes.items()]
    else:
        raise ValidationError("nodes", nodes, "must be a list of nodes, or a map from id to node")
    for place, item, key in items:
        try:
            record, sample = _read_node(item, key, arranged, newer=newer)
        except ValidationError as error:
            raise error.within(place) from None
        yield place, record, sample


def _short(key: str) -> str:
    return shown(key).strip("'")


def _read_node(
    item: object, key: Optional[str], arranged: Callable[[dict[str, Any]], dict[str, Any]], *, newer: bool
) -> tuple[NodeRecord, Sampled]:
    if not isinstance(item, dict):
        raise ValidationError("node", item, "must be a map of fields")
    plain = dict(item)
    if key is not None and plain.setdefault("id", key) != key:
        raise ValidationError("id", plain["id"], f"must equal the key of its entry, {shown(key)}")
    without_id = plain.get("id", "") == "" and plain.get("public_key", "") == ""
    plain = arranged(plain)
    record, sample = record_from_plain(plain, newer=newer)
    if without_id:
        record = record_with(record, node=node_with(record.node, id=_id_of_description(record)))
    if record.evidence:  # it determines the score; without it a score set by hand stays until the first outcome
        node = node_with(record.node, reputation=round(reputation_of(state_of(record)).score, 2))
        record = record_with(record, node=node)
    elif "reputation" not in plain:
        record = record_with(record, node=node_with(record.node, reputation=round(NEWCOMER_SCORE, 2)))
    found = record.node.liveness
    if found is not Liveness.LEFT:  # the other states are not durable, and not part of the record
        record = record_with(record, node=node_with(record.node, liveness=Liveness.LIVE))
    return record, Sampled(record.node.id, sample, found is Liveness.DOWN)


def _id_of_description(record: NodeRecord) -> str:
    """An id that is the same each time the file is read, until the registry writes it to the file."""
    import uuid

    node = record.node
    description = json.dumps([node.ip_address, node.port, node.hostname, node.wallet_address])
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "urn:duxnet:node:" + description))


def _in_order(
    read: Iterator[tuple[str, NodeRecord, Sampled]],
) -> Iterator[tuple[NodeRecord, Sampled]]:
    """Sort by `sequence`; records without one come last, and each gets a number of its own."""
    places: dict[str, str] = {}
    every = []
    for place, record, sample in read:
        node_id = record.node.id
        if node_id in places:
            raise ValidationError(
                f"{place}.id", node_id, f"must not repeat {places[node_id]}; give each node its own id"
            )
        places[node_id] = place
        every.append((record, sample))
    every.sort(key=lambda item: (item[0].sequence == NEXT_SEQUENCE, item[0].sequence))
    is_odd = any(record.sequence > HIGHEST_SEQUENCE for record, _sample in every)  # by hand: keep the order
    last = 0
    for record, sample in every:
        last = last + 1 if is_odd else max(last + 1, record.sequence)
        yield (record if record.sequence == last else record_with(record, sequence=last)), sample
