"""The reputation of a node and its evidence. The formulas are in `registry_core.rules.reputation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.status import Admission

__all__ = ["Evidence", "Reputation"]


@dataclass(frozen=True)
class Evidence:
    """Weighted outcomes of one dimension, without the prior: `successes` is Beta's α − α₀, `failures` its β − β₀."""

    successes: float = 0.0
    failures: float = 0.0

    def __post_init__(self) -> None:
        for name in ("successes", "failures"):
            object.__setattr__(self, name, limits.number(name, getattr(self, name), 0, limits.MAX_EVIDENCE))

    @property
    def weight(self) -> float:
        """The total amount of evidence."""
        return self.successes + self.failures


@dataclass(frozen=True)
class Reputation:
    """`score` (0 to 5) is a lower bound: a gate, not a probability. `posterior_mean` (0 to 1) is the best guess.

    `evidence` maps a dimension ("correctness", …) to its outcomes; `standing` is the admission axis; `reasons` are
    sentences that explain the score.
    """

    score: float
    posterior_mean: float
    evidence: Mapping[str, Evidence] = field(default_factory=FrozenMap)
    standing: Admission = Admission.PROBATION
    reasons: tuple[str, ...] = ()
