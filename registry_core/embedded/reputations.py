"""The registry's changes to reputations: outcomes, hours of uptime, ratings, and what is kept of removed nodes.

It updates records, events and tombstones; `rules.reputation` decides what evidence means.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Optional

from registry_core.clock import Clock
from registry_core.embedded.live_state import LiveState
from registry_core.embedded.tombstones import HostPart, Tombstones
from registry_core.embedded.transactions import Transactions, UnitOfWork
from registry_core.embedded.wallets import ProofTerms, Wallets, proven_wallet
from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.events import EventKind
from registry_core.identity.wallets import WalletVerifier
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation import (
    DEFAULT_POLICY,
    EvidenceState,
    Outcome,
    StandingChange,
    Tombstone,
    evidence_from_ratings,
    network_mean,
    reputation_of,
    with_absence,
    with_outcome,
    with_rating_batch,
)
from registry_core.rules.reputation.counted_tasks import CountedTasks
from registry_core.rules.reputation.stored_evidence import (
    after_hours,
    after_outcome,
    record_of,
    state_of,
    with_standing_judged,
)
from registry_core.storage.store import Store

__all__ = ["Reputations"]

_log = logging.getLogger(__name__)

_READ_AT_ONCE = 500
_UPTIME = "network.uptime"
_WATCHED = "network.watched_hours"
_MOST_ABSENT_HOURS = 720.0
"""No longer absence counts: what a node did before it is forgotten by then."""


class Reputations:
    """Part of the registry, called within its commands."""

    def __init__(self, store: Store, transactions: Transactions, live_state: LiveState, clock: Clock) -> None:
        self._store = store
        self._transactions = transactions
        self._live_state = live_state
        self._clock = clock
        self.tombstones = Tombstones(transactions, clock)
        self.wallets = Wallets(transactions, self.tombstones)
        self._unsettled: list[str] = []
        self._settling_hour = 0
        self._uptimes = [Evidence()]  # the sum over the current pass
        self._rater_weights: Mapping[str, float] = {}
        self._watched_before: Optional[float] = None  # not read yet
        self._unreadable: set[Optional[str]] = set()  # nodes that were logged already

    def add(self, unit: UnitOfWork, record: NodeRecord, outcome: Outcome) -> Reputation:
        """Count an outcome for the node of `record`."""
        _refuse_own(outcome, record.node.id)
        hours = self._live_state.hours_waiting(record)
        found = after_outcome(record, outcome, self._clock.now().timestamp(), hours, self._rater_weights)
        if found is None:
            return reputation_of(state_of(record), record.node.admission)
        kept, reputation, change = found
        self._put(unit, record, kept, change)
        if hours:
            self._live_state.hours_settled(record.node.id)
        return reputation

    def add_to_removed(self, unit: UnitOfWork, node_id: str, outcome: Outcome) -> Optional[Reputation]:
        """Count a failure of a removed node, for its return; None if nothing is kept of the node."""
        _refuse_own(outcome, node_id)
        found = self.tombstones.of_node(unit, node_id)
        if found is None:
            return None
        left = with_outcome(found.left, outcome, self._clock.now().timestamp(), self._rater_weights)
        self.tombstones.bury_node(unit, node_id, left, found.reason)
        return reputation_of(left.evidence, left.standing)

    @property
    def hours_are_due(self) -> bool:
        """Whether `settle_hours` has work to do."""
        return bool(self._unsettled) or self._live_state.uptime.now_hour > self._settling_hour

    def settle_hours(self, most: int) -> int:
        """Write observed hours into the evidence of at most `most` nodes; returns the number of nodes examined."""
        if not self.hours_are_due:
            return 0
        if not self._unsettled:
            with self._live_state.locked() as table:
                self._settling_hour, self._unsettled = self._live_state.uptime.now_hour, table.ids()[::-1]
        with self._transactions.batch(), self._transactions.command() as unit:
            looked_at = [self._unsettled.pop() for _ in range(min(most, len(self._unsettled)))]
            for node_id in looked_at:
                self._settle(unit, node_id)
            if not self._unsettled:
                self._transactions.put_text(unit, _UPTIME, repr(network_mean(self._uptimes)))
                self._watched_hours(unit)
                self._uptimes = [Evidence()]
        if not self._unsettled:
            self._live_state.all_settled(self._settling_hour)
        return len(looked_at)

    def _note_uptime(self, uptime: Evidence) -> None:
        before = self._uptimes[0]
        self._uptimes[0] = evidence_of(before.successes + uptime.successes, before.failures + uptime.failures)

    def network_uptime(self) -> float:
        """The share of windows in which nodes stayed live, from the last full pass of `settle_hours`."""
        return self._stored_number(_UPTIME, network_mean(()), 1.0)

    def _stored_number(self, name: str, default: float, most: float) -> float:
        text = self._store.meta(name)
        if text is None:
            return default
        try:
            return limits.number(name, float(text), 0.0, most)
        except ValueError as error:
            raise DamagedStoreError(self._store.location, f"meta.{name}: {error}") from None

    def _watched_hours(self, unit: UnitOfWork) -> Optional[float]:
        """Hours in which this registry judged liveness, over all its runs, stored by `unit`; None if it does not."""
        hours = self._live_state.hours_open()
        if hours is None:
            return None
        if self._watched_before is None:
            self._watched_before = self._stored_number(_WATCHED, 0.0, 1e9)
        watched = self._watched_before + hours
        self._transactions.put_text(unit, _WATCHED, repr(watched))
        return watched

    def weigh_ratings(self, seeds: Collection[str]) -> int:
        """Weigh all ratings in one pass; returns the number of nodes whose evidence changed."""
        with self._live_state.locked() as table:
            ids = table.ids()
        triples = []
        before: dict[str, Evidence] = {}
        for start in range(0, len(ids), _READ_AT_ONCE):
            for record in self._store.read_many(ids[start : start + _READ_AT_ONCE], self._note_unreadable):
                if record is not None and (record.history.get("raters") or "ratings" in record.evidence):
                    try:
                        state = state_of(record)
                    except DamagedStoreError as error:
                        self._note_unreadable(error)
                        continue
                    before[record.node.id] = state.ratings
                    triples += [(rater, record.node.id, value) for rater, (value, _) in state.raters.items()]
        weighed = evidence_from_ratings(triples, seeds)
        self._rater_weights = weighed.weights
        changed = [name for name, old in before.items() if weighed.evidence.get(name, Evidence()) != old]
        for start in range(0, len(changed), _READ_AT_ONCE):
            with self._transactions.batch(), self._transactions.command() as unit:
                for name in changed[start : start + _READ_AT_ONCE]:
                    self._weigh(unit, name, weighed.evidence.get(name, Evidence()))
        return len(changed)

    def _weigh(self, unit: UnitOfWork, node_id: str, ratings: Evidence) -> None:
        try:
            record = self._transactions.record(node_id, unit)
            kept = None if record is None else record_of(record, with_rating_batch(state_of(record), ratings))
        except DamagedStoreError as error:  # the other nodes' ratings are written
            self._note_unreadable(error)
            return
        if record is not None and kept is not None:
            self._put(unit, record, kept, None)

    def _note_unreadable(self, error: DamagedStoreError, what: str = "ratings") -> None:
        """Log once per node that its record cannot be read; the work continues with the other nodes."""
        if error.node_id not in self._unreadable:
            self._unreadable.add(error.node_id)
            _log.error("the %s of node %s cannot be written: %s", what, error.node_id, error)

    def _settle(self, unit: UnitOfWork, node_id: str) -> None:
        try:
            record = self._transactions.record(node_id, unit)
            if record is None:
                return
            hours = self._live_state.hours_waiting(record)
            kept = after_hours(record, hours, self._clock.now().timestamp()) if hours else record
        except DamagedStoreError as error:  # the other nodes' hours are written
            self._note_unreadable(error, "hours")
            return
        self._note_uptime(kept.evidence.get("uptime", Evidence()))
        if kept is record:
            return
        # Before the record is durable, since the next command builds on it. Hours lost in a failed commit count as
        # not observed.
        self._live_state.hours_settled(node_id)
        if kept.node.reputation != record.node.reputation:
            self._put(unit, record, kept, None)
        else:
            self._transactions.put(unit, kept)

    def returning(self, unit: UnitOfWork, before: Optional[NodeRecord], record: NodeRecord) -> NodeRecord:
        """The record of a registering node, with its past restored and an expired suspension ended."""
        now = self._clock.now().timestamp()
        if before is None:
            left = self.tombstones.take(unit, record.node.id)
            return record if left is None else _with_past(record, self._after_absence(unit, left))
        if proven_wallet(before) and not proven_wallet(record):
            self.wallets.leave(unit, before)
        if record.node.admission is not Admission.SUSPENDED:
            return record
        kept, _, change = with_standing_judged(record, state_of(record), now)
        if change is None:
            return record
        _add_standing_event(unit, record, change)
        return kept

    def _after_absence(self, unit: UnitOfWork, left: Tombstone) -> Tombstone:
        """A removed node's past, with the time since its removal."""
        since = left.evidence.removed_at_hours
        if since is None:
            return left
        now = self._watched_hours(unit)
        absent = 0.0 if now is None else min(max(0.0, now - since), _MOST_ABSENT_HOURS)
        return replace(left, evidence=replace(with_absence(left.evidence, absent), removed_at_hours=None))

    def remember(self, unit: UnitOfWork, record: NodeRecord, host: Optional[HostPart] = None) -> None:
        """Keep a removed node's reputation, including the hours until now, and the host's data about it."""
        self.wallets.leave(unit, record)
        now, node = self._clock.now().timestamp(), record.node
        state = state_of(after_hours(record, self._live_state.hours_until_removed(record), now))
        state = replace(state, tasks=CountedTasks())
        if node.admission in (Admission.PROBATION, Admission.PENDING) and _says_nothing(state):
            state = EvidenceState()
        else:
            state = replace(state, removed_at_hours=self._watched_hours(unit))
        self.tombstones.bury_node(unit, node.id, Tombstone(state, node.admission), node.admission_reason, host)

    def prove_wallet(
        self,
        unit: UnitOfWork,
        record: NodeRecord,
        signature: str,
        verifier: Optional[WalletVerifier],
        terms: ProofTerms,
    ) -> None:
        """Store a wallet proof, and add an event if the node's standing changes."""
        change = self.wallets.attach(unit, record, signature, verifier, terms)
        if change is not None:
            _add_standing_event(unit, record, change)

    def _put(self, unit: UnitOfWork, before: NodeRecord, kept: NodeRecord, change: Optional[StandingChange]) -> None:
        self._transactions.put(unit, kept)
        details = {"from": f"{before.node.reputation:.2f}", "to": f"{kept.node.reputation:.2f}"}
        unit.events.append((EventKind.REPUTATION, kept.node.id, FrozenMap(details)))
        if change is not None:
            _add_standing_event(unit, before, change)


def _refuse_own(outcome: Outcome, node_id: str) -> None:
    if outcome.rater == node_id:
        raise ValidationError("rater", outcome.rater, "must be another node; a node cannot rate itself")


_NEWCOMER = EvidenceState()
_UPTIME_FIELDS = (
    "first_seen_seconds",
    "availability",
    "observed_hours",
    "uptime",
    "window_hours",
    "window_intact",
    "away_hours",
    "excused_hours",
)


def _says_nothing(state: EvidenceState) -> bool:
    """Whether the evidence is only uptime, and too little to count.

    No tombstone is kept of it; otherwise nodes that come and go would displace the tombstones of others.
    """
    if state.observed_hours >= DEFAULT_POLICY.availability_min_hours:
        return False
    return replace(state, **{name: getattr(_NEWCOMER, name) for name in _UPTIME_FIELDS}) == _NEWCOMER


def _with_past(record: NodeRecord, left: Tombstone) -> NodeRecord:
    """The record of a node that registers again, with its earlier evidence and, unless it must wait, its standing."""
    if record.node.admission is Admission.PENDING and left.standing in (Admission.PROBATION, Admission.APPROVED):
        return record_of(record, left.evidence)
    return record_of(record, left.evidence, admission=left.standing)


def _add_standing_event(unit: UnitOfWork, before: NodeRecord, change: StandingChange) -> None:
    details = {"from": before.node.admission.value, "to": change.to.value, "reason": change.reason, "actor": "policy"}
    unit.events.append((EventKind.ADMISSION, before.node.id, FrozenMap(details)))
