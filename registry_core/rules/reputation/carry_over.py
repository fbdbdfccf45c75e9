"""The past of a node whose key or proven wallet was registered before, so that registering again gains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Optional

from registry_core.models.frozen import FrozenMap
from registry_core.models.status import Admission
from registry_core.rules.reputation.admission_policy import next_standing, with_standing
from registry_core.rules.reputation.counted_tasks import CountedTasks
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.outcomes import Outcome, record
from registry_core.rules.reputation.policy import DEFAULT_POLICY, ReputationPolicy
from registry_core.rules.reputation.scoring import reputation_of

__all__ = ["Tombstone", "is_faulty", "starting_record", "with_outcome", "with_wallet"]

#: worst first
_RANK = (Admission.BANNED, Admission.SUSPENDED, Admission.PENDING, Admission.PROBATION, Admission.APPROVED)


@dataclass(frozen=True)
class Tombstone:
    """What is kept of a node after its deregistration."""

    evidence: EvidenceState = EvidenceState()
    standing: Admission = Admission.PROBATION


def starting_record(
    of_key: Optional[Tombstone],
    of_verified_wallet: Iterable[Tombstone] = (),
    *,
    newcomer: Tombstone = Tombstone(),
    policy: ReputationPolicy = DEFAULT_POLICY,
) -> Tombstone:
    """The state with which a node starts.

    A known key gets back exactly its earlier state. A new key whose wallet is *proven* takes over the worst evidence
    and the worst standing of the wallet's nodes, and must pass probation again. Any other node is a newcomer. Never
    pass nodes of an unproven wallet: a stranger could then make the wallet's owner liable for his failures.
    """
    if of_key is not None:
        return of_key
    before = list(of_verified_wallet)
    if not before:
        return newcomer
    worst = min(before, key=lambda kept: _merit(kept.evidence, policy))
    standing = min((newcomer.standing, *(kept.standing for kept in before)), key=_RANK.index)
    evidence = replace(
        worst.evidence,
        first_seen_seconds=newcomer.evidence.first_seen_seconds,
        verified_tasks=0.0,
        raters=newcomer.evidence.raters,
        tasks=CountedTasks(),
        suspensions=max(kept.evidence.suspensions for kept in before),
        suspended_at_seconds=max(kept.evidence.suspended_at_seconds for kept in before),
    )
    return Tombstone(evidence, standing)


def with_outcome(
    left: Tombstone, outcome: Outcome, now_seconds: float, rater_weights: Mapping[str, float] = FrozenMap()
) -> Tombstone:
    """What a removed node left, after an outcome that was reported since; its standing follows as if it were here."""
    evidence = record(left.evidence, outcome, now_seconds, rater_weights=rater_weights)
    change = None if evidence.standing_by_operator else next_standing(left.standing, evidence, now_seconds)
    if change is None:
        return replace(left, evidence=evidence)
    return Tombstone(with_standing(evidence, change, now_seconds), change.to)


def is_faulty(kept: Tombstone, policy: ReputationPolicy = DEFAULT_POLICY) -> bool:
    """Whether the node has faults: it is banned or suspended, or expected to fail more often than not."""
    out = kept.standing in (Admission.BANNED, Admission.SUSPENDED)
    return out or reputation_of(kept.evidence, policy=policy).posterior_mean < 0.5


def with_wallet(own: Tombstone, of_wallet: Iterable[Tombstone], policy: ReputationPolicy = DEFAULT_POLICY) -> Tombstone:
    """A node's state after its wallet is proven, given the wallet's other nodes, including removed ones.

    The node takes over their faults but not their merits: otherwise one good node could lend its score to any number of
    new ones. Returns `own` itself if there are no faults. An operator's decision on the node stays.
    """
    faulty = [kept for kept in of_wallet if is_faulty(kept, policy)]
    if not faulty:
        return own
    taken = starting_record(None, faulty, newcomer=own, policy=policy)
    standing = own.standing if own.evidence.standing_by_operator else taken.standing
    evidence = taken.evidence
    if _merit(own.evidence, policy) < _merit(evidence, policy):
        evidence = replace(
            own.evidence, suspensions=evidence.suspensions, suspended_at_seconds=evidence.suspended_at_seconds
        )
    decided = own.evidence.standing_by_operator or any(
        kept.evidence.standing_by_operator and kept.standing is standing for kept in faulty
    )
    return Tombstone(replace(evidence, standing_by_operator=decided), standing)


def _merit(evidence: EvidenceState, policy: ReputationPolicy) -> tuple[float, float]:
    """Score and mean: no score is below a newcomer's, so the mean distinguishes bad nodes."""
    reputation = reputation_of(evidence, policy=policy)
    return reputation.score, reputation.posterior_mean
