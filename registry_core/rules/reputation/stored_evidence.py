"""Conversion between a node's evidence and its record.

The record's `evidence` holds the weights by dimension, which people read and may edit by hand; `history` holds the rest
of the state. If the two disagree, after a hand edit, `evidence` takes precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Optional

from registry_core.errors import DamagedStoreError
from registry_core.models.frozen import FrozenMap, frozen_json_map
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission
from registry_core.models.trusted import node_with, record_with
from registry_core.rules.reputation.admission_policy import StandingChange, next_standing, with_standing
from registry_core.rules.reputation.availability import HourObserved, with_hour
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.outcomes import Outcome, correctness_of, record
from registry_core.rules.reputation.policy import AVAILABILITY, CORRECTNESS, PERFORMANCE
from registry_core.rules.reputation.scoring import reputation_of

__all__ = ["after_hours", "after_outcome", "checked_history", "record_of", "state_of"]

#: name in `evidence` → field of the state; without correctness, which is split into two fields
_STREAMS = {AVAILABILITY: "availability", PERFORMANCE: "performance", "uptime": "uptime", "ratings": "ratings"}
_NOTHING = Evidence()


def state_of(kept: NodeRecord) -> EvidenceState:
    """The evidence in a record. Raises DamagedStoreError for an invalid history."""
    try:
        state = EvidenceState.trusted(kept.history)
    except DamagedStoreError as error:
        raise DamagedStoreError(error.path, error.where, kept.node.id) from None
    streams = {field: kept.evidence.get(name, _NOTHING) for name, field in _STREAMS.items()}
    correctness = kept.evidence.get(CORRECTNESS, _NOTHING)
    if correctness_of(state) != correctness:
        streams["settled"], streams["open_batch"] = correctness, _NOTHING
    return replace(state, **streams)  # type: ignore[arg-type]  # the fields named above hold evidence


def record_of(
    before: NodeRecord, state: EvidenceState, reputation: Optional[Reputation] = None, **node_fields: Any
) -> NodeRecord:
    """`before` with this evidence and its score, and with `node_fields` of the node replaced.

    `reputation` is that of `state`, if the caller has computed it already.
    """
    evidence = {CORRECTNESS: correctness_of(state)}
    evidence.update((name, getattr(state, field)) for name, field in _STREAMS.items())
    plain = state.to_plain()
    for field in _STREAMS.values():
        plain.pop(field, None)
    if "open_batch" not in plain:
        plain.pop("settled", None)
    if reputation is None:
        reputation = reputation_of(state)
    return record_with(
        before,
        node=node_with(before.node, reputation=round(reputation.score, 2), **node_fields),
        evidence=FrozenMap({name: item for name, item in evidence.items() if item.weight > 0.0}),
        history=frozen_json_map("history", plain),
    )


def after_outcome(
    before: NodeRecord,
    outcome: Outcome,
    now_seconds: float,
    hours: Iterable[HourObserved] = (),
    rater_weights: Mapping[str, float] = FrozenMap(),
) -> Optional[tuple[NodeRecord, Reputation, Optional[StandingChange]]]:
    """The record, reputation and change of standing after an outcome; None if its task was counted before.

    `hours` were observed since the record was written; `rater_weights` are those of the last rating batch.
    """
    state = _begun(before, now_seconds)
    following = record(state, outcome, now_seconds, rater_weights=rater_weights)
    if following is state:
        return None
    return with_standing_judged(before, _with_hours(following, hours), now_seconds)


def after_hours(before: NodeRecord, hours: Iterable[HourObserved], now_seconds: float) -> NodeRecord:
    """The record after these observed hours. The standing does not change: uptime says nothing about correctness."""
    return record_of(before, _with_hours(_begun(before, now_seconds), hours))


def _begun(before: NodeRecord, now_seconds: float) -> EvidenceState:
    state = state_of(before)
    if state.first_seen_seconds is None:
        return replace(state, first_seen_seconds=_registered_seconds(before.node, now_seconds))
    return state


def _with_hours(state: EvidenceState, hours: Iterable[HourObserved]) -> EvidenceState:
    for hour in hours:
        state = with_hour(state, hour)
    return state


def with_standing_judged(
    before: NodeRecord, state: EvidenceState, now_seconds: float
) -> tuple[NodeRecord, Reputation, Optional[StandingChange]]:
    """The record with this evidence and the resulting standing, which stays if an operator has set it."""
    standing = before.node.admission
    change = None if state.standing_by_operator else next_standing(standing, state, now_seconds)
    if change is None:
        reputation = reputation_of(state, standing)
        return record_of(before, state, reputation), reputation, None
    state = with_standing(state, change, now_seconds)
    kept = record_of(before, state, admission=change.to, admission_reason=change.reason)
    return kept, reputation_of(state, change.to), change


def checked_history(plain: object) -> FrozenMap[str, Any]:
    """The history from a file, checked field by field. Raises ValidationError."""
    if isinstance(plain, Mapping) and not plain:
        return FrozenMap()
    return frozen_json_map("history", EvidenceState.from_plain(plain, "history").to_plain())


def decided_by_operator(before: NodeRecord, after: Admission) -> Mapping[str, Any]:
    """The history after an operator set the standing: the rules do not change it, except that they end probation."""
    rest = {name: value for name, value in before.history.items() if name != "standing_by_operator"}
    if after is not Admission.PROBATION:
        rest["standing_by_operator"] = True
    return FrozenMap(rest)


def _registered_seconds(node: Node, now_seconds: float) -> float:
    return now_seconds if node.registered_at is None else node.registered_at.timestamp()
