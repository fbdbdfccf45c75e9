"""From evidence about a node to its reputation: pure functions without I/O or clock.

The registry stores one `EvidenceState` with each node's record (`to_plain`, `from_plain`; at most about 20 KB, mostly
task ids) and, after deregistration, a `Tombstone` for its key and for its wallet if that was proven. It calls:

| When | Call |
|---|---|
| registration | the tombstone of the node's key, `with_absence` since then; otherwise a newcomer's state |
| proof of a wallet | `with_wallet(own, of_wallet)`: adds the faults of the wallet's other nodes |
| `update_node_reputation` | `record(state, Outcome(…), at_seconds)`; returns the same object if nothing changed |
| each hour of its own time | `with_hour(state, HourObserved(…))` for each node; `network_mean` for the priors |
| every few minutes if there are ratings | `evidence_from_ratings(triples, seeds)`, then `with_rating_batch` |
| after each of these | `reputation_of(state, standing, network_live_mean)`: score and reasons |
| after each, unless an operator set the standing | `next_standing(standing, state, now)`, then `with_standing` |
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
