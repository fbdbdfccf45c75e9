"""Every number that the reputation rules use, each with its source and which way to turn it.

Here: parameters and their checks. Not here: what is done with them.
"""

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
    """The parameters of reputation. "Judgement" marks what no measurement decided."""

    bound: float = 0.05
    """The quantile that scores are. Common practice for "most likely at least"; lower asks for more evidence."""

    exponents: FrozenMap[str, float] = field(
        default_factory=lambda: FrozenMap({CORRECTNESS: 0.5, AVAILABILITY: 0.3, PERFORMANCE: 0.2})
    )
    """How much each dimension counts (judgement); shared out anew among the dimensions that have evidence."""

    correctness_kept: float = 0.999
    """What is left of old evidence after one unit of new: Storj's audits use the same λ. Lower forgets faster, and
    caps the evidence sooner (at 1 / (1 − λ) = 1,000 units)."""

    wrong_result_weight: float = 5.0
    """Weight of a result that was proven wrong (judgement): raise it where they cost much more than late ones."""

    most_weight: float = 5.0
    """No single outcome weighs more, whoever reports it. Bounds what one report can do."""

    availability_kept: float = 0.95
    """What is left of availability after `availability_unit_hours` observed. Measured best on corporate PCs (Brier
    score, see docs/reputation.md). Raise it for machines whose habits change slowly."""

    availability_unit_hours: float = 6.0
    """Hours observed that make one unit of availability evidence, and the window of expected uptime. Hours of one
    night are not independent: counting each as a whole observation would be too sure too soon."""

    availability_prior_strength: float = 4.0
    """Units of prior evidence at the network's mean. Raise it when a network's nodes are much alike."""

    availability_prior_mean: float = 0.9
    """The network's mean before the network has one (judgement). Measured ones replace it."""

    availability_min_hours: float = 24.0
    """Availability counts from this many hours observed on: a whole day, so that time of day says nothing."""

    excused_hours_a_month: float = 12.0
    """Hours of good leave or removal in 30 days that do not count as absence (judgement): maintenance. Beyond them all
    count, those too."""

    performance_kept: float = 0.95
    """What is left of performance evidence after one more measurement (judgement)."""

    performance_min_units: float = 5.0
    """Performance counts from this much evidence on (judgement)."""

    ratings_share: float = 0.25
    """The most that other nodes' ratings may be of the evidence of correctness. Opinions are a second channel: 0
    switches them off."""

    rating_restart: float = 0.25
    """a of the trust flow: the part of trust that returns to the seeds at each step. Chosen against Sybils with
    slander on Bitcoin Alpha and frozen; raise it to keep trust nearer to the seeds."""

    ratings_per_node: int = 256
    """Raters remembered for each node; the least trusted, then the oldest, go first. Bounds the record."""

    tasks_remembered: int = 1024
    """Task ids remembered for each node, so that a task counts once."""

    task_memory_days: int = 30
    """Task ids older than this are forgotten."""

    approval_tasks: int = 20
    """Verified tasks before probation can end (judgement; Storj asks for 100 audits)."""

    approval_days: float = 7.0
    """Days known before probation can end: time is what an attacker can't buy (Storj asks for 21)."""

    approval_mean: float = 0.8
    """The posterior mean of correctness that ends probation (judgement)."""

    suspension_mean: float = 0.6
    """At or below this posterior mean of correctness a node is suspended (Storj's suspension: 0.6)."""

    suspension_evidence: float = 10.0
    """Units of evidence before a node can be suspended: two proven wrong results, or ten failures."""

    suspension_days: float = 7.0
    """Length of the first suspension; each further one is twice as long (judgement)."""

    suspensions_before_ban: int = 3
    """The suspension after this many is a ban (judgement)."""

    least_audit: float = 0.02
    """The part of results that is checked of even the best node (field measurement in docs/reputation.md)."""

    audit_tolerance: float = 0.05
    """Doubt 1 − L at which every result is checked begins at twice this. Lower it to check more."""

    explore_share: float = 0.05
    """The part of places that `order="explore"` gives to newcomers (judgement; Storj: 0.01 of uploads)."""

    def __post_init__(self) -> None:
        for name in ("bound", "correctness_kept", "availability_kept", "performance_kept", "rating_restart"):
            value = limits.number(name, getattr(self, name), 0.0, 1.0)
            if value in (0.0, 1.0):
                raise ValidationError(name, value, "must lie between 0 and 1, both excluded")
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
        """The score of a node about which nothing is known; no listed node scores below it."""
        return 5.0 * self.bound


DEFAULT_POLICY = ReputationPolicy()
