"""The parameters of the reputation rules, each with its source and the effect of changing it."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap

__all__ = ["AVAILABILITY", "CORRECTNESS", "DEFAULT_POLICY", "DIMENSIONS", "PERFORMANCE", "ReputationPolicy"]

CORRECTNESS = "correctness"
AVAILABILITY = "availability"
PERFORMANCE = "performance"
DIMENSIONS = (CORRECTNESS, AVAILABILITY, PERFORMANCE)


@dataclass(frozen=True)
class ReputationPolicy:
    """The parameters of reputation. "Judgement" marks values that are not based on a measurement."""

    bound: float = 0.05
    """The quantile that gives the score. Common practice for "most likely at least"; lower requires more evidence."""

    exponents: FrozenMap[str, float] = field(
        default_factory=lambda: FrozenMap({CORRECTNESS: 0.5, AVAILABILITY: 0.3, PERFORMANCE: 0.2})
    )
    """The weight of each dimension (judgement), distributed among the dimensions that have evidence."""

    correctness_kept: float = 0.999
    """The share of old evidence that remains after one new unit; Storj's audits use the same λ. A lower value forgets
    faster and limits the total evidence more (to 1 / (1 − λ) = 1,000 units)."""

    wrong_result_weight: float = 5.0
    """Weight of a result proven wrong (judgement). Raise it if wrong results cost much more than late ones."""

    most_weight: float = 5.0
    """Maximum weight of one outcome, which limits the effect of one report."""

    availability_kept: float = 0.95
    """The share of availability evidence that remains after `availability_unit_hours`. The best value measured on
    corporate PCs (Brier score, see docs/reputation.md). Raise it for machines whose usage changes slowly."""

    availability_unit_hours: float = 6.0
    """Observed hours in one unit of availability evidence, and the window of expected uptime. Hours of one night are
    not independent: counting each as a whole observation would overstate the certainty."""

    availability_prior_strength: float = 4.0
    """Units of prior evidence at the network's mean. Raise it if the network's nodes are very similar."""

    availability_prior_mean: float = 0.9
    """The network's mean before one is measured (judgement)."""

    availability_min_hours: float = 24.0
    """Observed hours from which availability counts: a whole day, so that the time of day has no effect."""

    excused_hours_a_month: float = 12.0
    """Hours in 30 days for which a node may leave or be removed, for maintenance, without being counted as absent
    (judgement). Once it exceeds them, all of these hours count."""

    performance_kept: float = 0.95
    """The share of performance evidence that remains after one more measurement (judgement)."""

    performance_min_units: float = 5.0
    """Units of evidence from which performance counts (judgement)."""

    ratings_share: float = 0.25
    """Maximum share of other nodes' ratings in the evidence of correctness. 0 disables them."""

    rating_restart: float = 0.25
    """a of the trust flow: the share of trust that returns to the seeds at each step. Chosen in tests with Sybil and
    slander attacks on Bitcoin Alpha; raise it to keep trust nearer to the seeds."""

    ratings_per_node: int = 256
    """Maximum number of raters stored per node; the least trusted, then the oldest, are dropped first."""

    tasks_remembered: int = 1024
    """Maximum number of task ids stored per node, so that a task counts once."""

    task_memory_days: int = 30
    """Days after which a task id is dropped."""

    approval_tasks: int = 20
    """Verified tasks before probation can end (judgement; Storj requires 100 audits)."""

    approval_days: float = 7.0
    """Days since registration before probation can end: an attacker cannot buy time (Storj requires 21)."""

    approval_mean: float = 0.8
    """The posterior mean of correctness that ends probation (judgement)."""

    suspension_mean: float = 0.6
    """A node is suspended at or below this posterior mean of correctness (Storj uses 0.6)."""

    suspension_evidence: float = 10.0
    """Units of evidence before a node can be suspended: two proven wrong results, or ten failures."""

    suspension_days: float = 7.0
    """Days of the first suspension; each further one is twice as long (judgement)."""

    suspensions_before_ban: int = 3
    """Number of suspensions after which the next one is a ban (judgement)."""

    least_audit: float = 0.02
    """The share of the best nodes' results that is checked (field measurement in docs/reputation.md)."""

    audit_tolerance: float = 0.05
    """Every result is checked if the doubt 1 − L is at least twice this. Lower it to check more."""

    explore_share: float = 0.05
    """The share of places that `order="explore"` gives to newcomers (judgement; Storj: 0.01 of uploads)."""

    def __post_init__(self) -> None:
        for name in ("bound", "correctness_kept", "availability_kept", "performance_kept", "rating_restart"):
            value = limits.number(name, getattr(self, name), 0.0, 1.0)
            if value in (0.0, 1.0):
                raise ValidationError(name, value, "must be above 0 and below 1")
        for name in ("approval_mean", "suspension_mean", "least_audit", "explore_share", "availability_prior_mean"):
            limits.number(name, getattr(self, name), 0.0, 1.0)
        limits.number("ratings_share", self.ratings_share, 0.0, 0.5)
        for name in ("availability_unit_hours", "availability_prior_strength", "most_weight", "audit_tolerance"):
            limits.number(name, getattr(self, name), 0.001, 1000.0)
        limits.number("wrong_result_weight", self.wrong_result_weight, 0.001, self.most_weight)
        for name in ("approval_days", "suspension_days", "availability_min_hours", "suspension_evidence"):
            limits.number(name, getattr(self, name), 0.0, 100_000.0)
        limits.number("excused_hours_a_month", self.excused_hours_a_month, 0.0, 720.0)
        for name in ("ratings_per_node", "tasks_remembered", "task_memory_days", "approval_tasks"):
            limits.integer(name, getattr(self, name), 0, 1_000_000)
        if self.approval_mean <= self.suspension_mean:
            raise ValidationError("approval_mean", self.approval_mean, "must be above suspension_mean")
        if set(self.exponents) != set(DIMENSIONS):
            raise ValidationError("exponents", dict(self.exponents), f"must name {', '.join(DIMENSIONS)}")
        for name, value in self.exponents.items():
            limits.number(f"exponents.{name}", value, 0.001, 1.0)

    @property
    def newcomer_score(self) -> float:
        """The score of a node without evidence, which is also the lowest score of any node."""
        return 5.0 * self.bound


DEFAULT_POLICY = ReputationPolicy()
