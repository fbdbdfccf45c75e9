"""What the registry does with reputations: outcomes, and what outlives a deregistration.

Here: records, events and the tombstones of nodes that were removed. Not here: what evidence means
(`rules.reputation`), durability (`staging`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Optional

from registry_core.clock import Clock
from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.events import EventKind
from registry_core.models import limits
from registry_core.models.frozen_map import FrozenMap
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Reputation
from registry_core.models.status import Admission
from registry_core.rules.reputation import EvidenceState, Kept, Outcome, StandingChange, reputation_of
from registry_core.rules.reputation.kept import after_outcome, record_of, state_of, with_standing_judged
from registry_core.rules.reputation.seen_tasks import SeenTasks
from registry_core.staging import Staging, Unit
from registry_core.storage.contract import Store

__all__ = ["MOST_REMEMBERED", "Reputations"]

MOST_REMEMBERED = 10_000
"""Removed nodes whose reputation is kept, the latest ones: about 10 MB at most. More: whoever waits longer is known."""

_NEXT = "removed.next"
_PLACE = "removed.place."  # a ring of MOST_REMEMBERED places, each with a node id
_NODE = "removed.node."


class Reputations:
    """Part of the registry; called inside its commands."""

    def __init__(self, store: Store, staging: Staging, clock: Clock) -> None:
        self._store = store
        self._staging = staging
        self._clock = clock
        self._next: Optional[int] = None

    def add(self, unit: Unit, record: NodeRecord, outcome: Outcome) -> Reputation:
        """Count an outcome for the node of `record`."""
        if outcome.rater == record.node.id:
            raise ValidationError("rater", outcome.rater, "must be another node: none rates itself")
        found = after_outcome(record, outcome, self._clock.now().timestamp())
        if found is None:
            return reputation_of(state_of(record), record.node.admission)
        kept, reputation, change = found
        self._put(unit, record, kept, change)
        return reputation

    def returning(self, unit: Unit, before: Optional[NodeRecord], record: NodeRecord) -> NodeRecord:
        """The record of a node that registers: with what it left behind, and out of a suspension that is over."""
        now = self._clock.now().timestamp()
        if before is None:
            left = self._take(unit, record.node.id)
            return record if left is None else _with_past(record, left)
        if record.node.admission is not Admission.SUSPENDED:
            return record
        kept, _, change = with_standing_judged(record, state_of(record), now)
        if change is None:
            return record
        _tell(unit, record, change)
        return kept

    def remember(self, unit: Unit, record: NodeRecord) -> None:
        """The node is removed: keep its reputation, unless there is nothing to keep."""
        state = replace(state_of(record), tasks=SeenTasks())
        if state == EvidenceState() and record.node.admission in (Admission.PROBATION, Admission.PENDING):
            return
        if self._next is None:
            self._next = int(self._store.meta(_NEXT) or "0")
        place = f"{_PLACE}{self._next % MOST_REMEMBERED}"
        oldest = self._store.meta(place)
        if oldest is not None:
            unit.meta[_NODE + oldest] = None
        self._next += 1
        text = json.dumps({"standing": record.node.admission.value, "evidence": state.to_plain()})
        unit.meta.update({_NEXT: str(self._next), place: record.node.id, _NODE + record.node.id: text})

    def _take(self, unit: Unit, node_id: str) -> Optional[Kept]:
        key = _NODE + node_id
        text = unit.meta[key] if key in unit.meta else self._store.meta(key)
        if text is None:
            return None
        unit.meta[key] = None
        try:
            plain = json.loads(text)
            standing = limits.choice("standing", plain["standing"], Admission)
            return Kept(EvidenceState.from_plain(plain["evidence"]), standing)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStoreError(self._store.location, f"what is kept of the removed {node_id}: {error}") from None

    def _put(self, unit: Unit, before: NodeRecord, kept: NodeRecord, change: Optional[StandingChange]) -> None:
        self._staging.put(unit, kept)
        details = {"from": f"{before.node.reputation:.2f}", "to": f"{kept.node.reputation:.2f}"}
        unit.events.append((EventKind.REPUTATION, kept.node.id, FrozenMap(details)))
        if change is not None:
            _tell(unit, before, change)


def _with_past(record: NodeRecord, left: Kept) -> NodeRecord:
    """A node that comes back under its key: its evidence, and its standing unless the newcomer must wait."""
    if record.node.admission is Admission.PENDING and left.standing in (Admission.PROBATION, Admission.APPROVED):
        return record_of(record, left.evidence)
    return record_of(record, left.evidence, admission=left.standing)


def _tell(unit: Unit, before: NodeRecord, change: StandingChange) -> None:
    details = {"from": before.node.admission.value, "to": change.to.value, "reason": change.reason, "actor": "policy"}
    unit.events.append((EventKind.ADMISSION, before.node.id, FrozenMap(details)))
