"""What is kept after a removal: one tombstone for each removed node, and one for each proven wallet.

This module has the record, how long it is kept, its JSON form, and the reader of the texts that older versions kept
instead. `embedded.tombstones` writes and queries tombstones; `sqlite.removed` stores them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Callable, NamedTuple, Optional

from registry_core.errors import ValidationError, shown
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap, frozen_json_map, thawed
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Tombstone

__all__ = [
    "MOST_KEPT",
    "NODE",
    "WALLET",
    "HeldTombstones",
    "Retention",
    "StoredTombstone",
    "TombstoneKey",
    "tombstone_from_plain",
    "tombstone_to_plain",
    "tombstones_of_rings",
]

_log = logging.getLogger("registry_core.storage")

NODE, WALLET = "node", "wallet"
"""The kinds: a removed node by its id, a proven wallet by the hash of its address."""

BRIEF_SECONDS = 30 * 86_400.0
"""How long the removal of a node, and its `host_state`, are kept."""

MOST_NODES = 10_000  # in the tombstone of one wallet


class Retention(IntEnum):
    """How long a tombstone is kept. Files contain the numbers."""

    FOR_GOOD = 0
    EVIDENCE = 1
    LASTING = 2
    BRIEF = 3
    WALLET = 4


MOST_KEPT = {
    Retention.EVIDENCE: 10_000,
    Retention.LASTING: 100_000,
    Retention.BRIEF: 1_000_000,
    Retention.WALLET: 10_000,
}
"""How many tombstones of each retention are kept, the newest ones; bans are kept for ever. They take about 10 MB for
evidence, 20 MB for replaced keys, and 100 bytes for each other removal of the last 30 days."""


class TombstoneKey(NamedTuple):
    """The node or wallet that a tombstone is for."""

    kind: str
    key: str


@dataclass(frozen=True)
class StoredTombstone:
    """The tombstone of `key`. `at` is Unix seconds.

    `left` is the evidence and standing of the node or wallet. `reason` is why the node was banned. `host_state` belongs
    to the program that runs the registry; if it `lasts`, its retention is limited by number and not to 30 days. `nodes`
    are those that proved the wallet. `unknown` holds fields that a newer version wrote.
    """

    key: TombstoneKey
    at: float
    left: Tombstone = Tombstone()
    reason: str = ""
    host_state: FrozenMap[str, Any] = field(default_factory=FrozenMap)
    lasts: bool = False
    nodes: tuple[str, ...] = ()
    unknown: FrozenMap[str, Any] = field(default_factory=FrozenMap)

    @property
    def retention(self) -> Retention:
        """How long this tombstone is kept."""
        if self.key.kind == WALLET:
            return Retention.WALLET
        if self.left.evidence not in _LIGHT:
            return Retention.EVIDENCE
        if self.left.standing is Admission.BANNED:
            return Retention.FOR_GOOD
        return Retention.LASTING if self.lasts and self.host_state else Retention.BRIEF

    @property
    def says_nothing(self) -> bool:
        """Whether it records nothing but the removal."""
        return self == StoredTombstone(self.key, self.at)

    def lighter(self) -> Optional[StoredTombstone]:
        """The smaller tombstone that replaces this one beyond the limit of its retention; None: nothing stays."""
        if self.retention is not Retention.EVIDENCE:
            return None
        banned = self.left.standing is Admission.BANNED
        left = Tombstone(EvidenceState(standing_by_operator=banned), Admission.BANNED) if banned else Tombstone()
        return replace(self, left=left, reason=self.reason if banned else "")


_LIGHT = (EvidenceState(), EvidenceState(standing_by_operator=True))


class HeldTombstones:
    """Tombstones in memory, in the order in which they were stored, within their limits."""

    def __init__(self, tombstones: Iterable[StoredTombstone] = ()) -> None:
        self._by_retention: dict[Retention, dict[TombstoneKey, StoredTombstone]] = {each: {} for each in Retention}
        for tombstone in tombstones:
            self.put(tombstone)

    def copy(self) -> HeldTombstones:
        """A copy with the same tombstones."""
        copied = HeldTombstones()
        copied._by_retention = {retention: dict(held) for retention, held in self._by_retention.items()}
        return copied

    def __iter__(self) -> Iterator[StoredTombstone]:
        every = [tombstone for held in self._by_retention.values() for tombstone in held.values()]
        return iter(sorted(every, key=lambda tombstone: tombstone.at))

    def __len__(self) -> int:
        return sum(map(len, self._by_retention.values()))

    def get(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """The tombstone of this key, or None."""
        return next((held[key] for held in self._by_retention.values() if key in held), None)

    def put(self, tombstone: StoredTombstone) -> None:
        """Store it, replacing an earlier one of its key, and remove those beyond the limits."""
        self.remove(tombstone.key)
        if tombstone.says_nothing:  # needed only by readers of changes, which memory and JSON files do not have
            return
        retention = tombstone.retention
        held = self._by_retention[retention]
        held[tombstone.key] = tombstone
        while len(held) > MOST_KEPT.get(retention, len(held)):
            lighter = held.pop(next(iter(held))).lighter()
            if lighter is not None:
                self.put(lighter)
        while retention is Retention.BRIEF and held:
            oldest = next(iter(held.values()))
            if oldest.at >= tombstone.at - BRIEF_SECONDS:
                break
            del held[oldest.key]

    def remove(self, key: TombstoneKey) -> None:
        """Remove the tombstone of this key, if there is one."""
        for held in self._by_retention.values():
            held.pop(key, None)


def tombstone_to_plain(tombstone: StoredTombstone) -> dict[str, Any]:
    """The tombstone as JSON values, without its key and without fields at their default."""
    plain: dict[str, Any] = {"at": tombstone.at}
    if tombstone.left.standing is not Admission.PROBATION:
        plain["standing"] = tombstone.left.standing.value
    evidence = tombstone.left.evidence.to_plain()
    if evidence:
        plain["evidence"] = evidence
    if tombstone.reason:
        plain["reason"] = tombstone.reason
    if tombstone.host_state:
        plain["host_state"] = thawed(tombstone.host_state)
    if tombstone.lasts:
        plain["lasts"] = True
    if tombstone.nodes:
        plain["nodes"] = list(tombstone.nodes)
    return {**thawed(tombstone.unknown), **plain}


def tombstone_from_plain(key: TombstoneKey, plain: object, *, newer: bool = False) -> StoredTombstone:
    """The tombstone that `tombstone_to_plain` wrote. Raises ValidationError. `newer`: unknown fields are kept."""
    name = "removed"
    if not isinstance(plain, Mapping):
        raise ValidationError(name, plain, "must be a map of fields")
    unknown = {field: value for field, value in plain.items() if field not in _FIELDS}
    if unknown and not newer:
        raise ValidationError(f"{name}.{shown(next(iter(unknown)))}", None, "is not a field of a tombstone")
    nodes = plain.get("nodes", [])
    if not isinstance(nodes, (list, tuple)) or len(nodes) > MOST_NODES:
        raise ValidationError(f"{name}.nodes", nodes, f"must be a list of at most {MOST_NODES} ids")
    lasts = plain.get("lasts", False)
    if not isinstance(lasts, bool):
        raise ValidationError(f"{name}.lasts", lasts, "must be true or false")
    return StoredTombstone(
        key,
        limits.number(f"{name}.at", plain.get("at", 0.0), 0, 1e12),
        Tombstone(
            EvidenceState.from_plain(plain.get("evidence", {}), f"{name}.evidence"),
            limits.choice(f"{name}.standing", plain.get("standing", Admission.PROBATION.value), Admission),
        ),
        limits.text(f"{name}.reason", plain.get("reason", ""), "reason"),
        frozen_json_map(f"{name}.host_state", plain.get("host_state", {})),
        lasts,
        tuple(limits.identifier(f"{name}.nodes", node_id) for node_id in nodes),
        frozen_json_map(name, unknown),
    )


_FIELDS = frozenset(("at", "standing", "evidence", "reason", "host_state", "lasts", "nodes"))


def tombstones_of_rings(
    location: str, meta: Mapping[str, str], at: float
) -> tuple[list[StoredTombstone], dict[str, str]]:
    """The tombstones that layouts 1 and 2 (JSON: schema 1.0) kept as texts, oldest first, and all other texts.

    A text that cannot be read stays among the other texts, and is logged.
    """
    kept = dict(meta)
    found: list[StoredTombstone] = []
    for kind, name, entry, size, read in _RINGS:
        taken = kept.pop(f"{name}.next", "0")
        first = int(taken) if taken.isascii() and taken.isdecimal() and len(taken) < 17 else 0
        places = [place for place in meta if _is_place(place, f"{name}.place.")]
        places.sort(key=lambda place: (int(place.rpartition(".")[2]) - first) % size, reverse=True)
        newest_first = [kept.pop(place) for place in places]
        newest_first += [text[len(entry) :] for text in meta if text.startswith(entry)]
        for key in reversed(list(dict.fromkeys(newest_first))):  # a key may have had several places
            if entry + key not in kept:
                continue
            try:
                found.append(read(TombstoneKey(kind, key), json.loads(kept[entry + key]), at))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                _log.error("%s: the entry %a cannot be read and is left as it is: %s", location, entry + key, error)
                continue
            del kept[entry + key]
    return found, kept


def _is_place(name: str, prefix: str) -> bool:
    number = name[len(prefix) :]
    return name.startswith(prefix) and number.isascii() and number.isdecimal() and len(number) < 10


def _of_removed(key: TombstoneKey, plain: Any, at: float) -> StoredTombstone:
    return tombstone_from_plain(key, {"at": at, "standing": plain["standing"], "evidence": plain["evidence"]})


def _of_wallet(key: TombstoneKey, plain: Any, at: float) -> StoredTombstone:
    left = plain["left"] or {"standing": Admission.PROBATION.value, "evidence": {}}
    return replace(_of_removed(key, left, at), nodes=tuple(limits.identifier("nodes", each) for each in plain["nodes"]))


_Read = Callable[[TombstoneKey, Any, float], StoredTombstone]
_RINGS: tuple[tuple[str, str, str, int, _Read], ...] = (
    (NODE, "removed", "removed.node.", 10_000, _of_removed),
    (WALLET, "wallet", "wallet.kept.", 10_000, _of_wallet),
)
