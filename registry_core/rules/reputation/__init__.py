"""From evidence about a node to its reputation: pure functions, no I/O, no clock.

How the registry uses this. It keeps one `EvidenceState` for each node beside its record (`to_plain`, `from_plain`; at
most about 20 KB, mostly task ids) and, after deregistration, a `Tombstone` for its key and, if verified, its wallet.

| When | Call |
|---|---|
| registration | what the node left under its key, `with_absence` since then; else a newcomer's |
| proof of a wallet | `with_wallet(own, of_wallet)`: the faults of the wallet's other nodes come along |
| `update_node_reputation` | `record(state, Outcome(…), at_seconds)`; the same object back: nothing to do |
| each hour of its own time | `with_hour(state, HourObserved(…))` for each node; `network_mean` for the priors |
| every few minutes with raters | `evidence_from_ratings(triples, seeds)` over all `raters`, then `with_rating_batch` |
| after each of these | `reputation_of(state, standing, network_live_mean)`: score for the index, reasons for people |
| the same, unless an operator set it | `next_standing(standing, state, now)`; on a change `with_standing` |
| queries | `expected_uptime`, `audit_probability`, `explored` |
"""

from __future__ import annotations

from registry_core.rules.reputation.admission_policy import StandingChange, next_standing, with_standing
from registry_core.rules.reputation.availability import (
    HourObserved,
    expected_uptime,
    is_steady,
    network_mean,
    with_absence,
    with_hour,
)
from registry_core.rules.reputation.beta import beta_quantile, lower_bound
from registry_core.rules.reputation.carry_over import Tombstone, is_faulty, starting_record, with_outcome, with_wallet
from registry_core.rules.reputation.counted_tasks import CountedTasks
from registry_core.rules.reputation.evidence import EvidenceState
from registry_core.rules.reputation.explore import draw, explored
from registry_core.rules.reputation.outcomes import Outcome, correctness_of, record, with_rating_batch
from registry_core.rules.reputation.policy import (
    CORRECTNESS,
    DEFAULT_POLICY,
    ReputationPolicy,
)
from registry_core.rules.reputation.ratings import evidence_from_ratings
from registry_core.rules.reputation.scoring import (
    NEWCOMER_SCORE,
    audit_probability,
    reputation_of,
)

__all__ = [
    "CORRECTNESS",
    "DEFAULT_POLICY",
    "NEWCOMER_SCORE",
    "EvidenceState",
    "HourObserved",
    "Tombstone",
    "Outcome",
    "ReputationPolicy",
    "CountedTasks",
    "StandingChange",
    "audit_probability",
    "beta_quantile",
    "correctness_of",
    "draw",
    "evidence_from_ratings",
    "expected_uptime",
    "explored",
    "is_faulty",
    "is_steady",
    "lower_bound",
    "network_mean",
    "next_standing",
    "record",
    "reputation_of",
    "starting_record",
    "with_absence",
    "with_hour",
    "with_outcome",
    "with_rating_batch",
    "with_standing",
    "with_wallet",
]
