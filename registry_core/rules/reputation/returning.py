"""What a node starts with when its key or verified wallet was here before: leaving and coming back gains nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Optional

from registry_core.models.status import Admission
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.policy import DEFAULT_POLICY, ReputationPolicy
from registry_core.rules.reputation.scoring import reputation_of
from registry_core.rules.reputation.seen_tasks import SeenTasks

__all__ = ["Kept", "starting_record"]

#: worst first; a new key under a wallet never starts above probation
_RANK = (Admission.BANNED, Admission.SUSPENDED, Admission.PENDING, Admission.PROBATION, Admission.APPROVED)


@dataclass(frozen=True)
class Kept:
    """What outlives a deregistration."""

    evidence: EvidenceState = EvidenceState()
    standing: Admission = Admission.PROBATION


def starting_record(
    of_key: Optional[Kept],
    of_verified_wallet: Iterable[Kept] = (),
    *,
    newcomer: Kept = Kept(),
    policy: ReputationPolicy = DEFAULT_POLICY,
) -> Kept:
    """What a node starts with.

    The same key gets back exactly what it left. A new key whose wallet is *verified* takes over the worst evidence and
    the worst standing that the wallet has, and must pass probation anew. Anyone else is a newcomer: never pass nodes of
    an unverified wallet here, or a stranger could pin his failures on its owner.
    """
    if of_key is not None:
        return of_key
    before = list(of_verified_wallet)
    if not before:
        return newcomer
    worst = min(before, key=lambda kept: reputation_of(kept.evidence, policy=policy).score)
    standing = min((newcomer.standing, *(kept.standing for kept in before)), key=_RANK.index)
    evidence = replace(
        worst.evidence,
        first_seen_seconds=newcomer.evidence.first_seen_seconds,
        verified_tasks=0.0,
        raters=newcomer.evidence.raters,
        tasks=SeenTasks(),
        suspensions=max(kept.evidence.suspensions for kept in before),
        suspended_at_seconds=max(kept.evidence.suspended_at_seconds for kept in before),
    )
    return Kept(evidence, standing)
