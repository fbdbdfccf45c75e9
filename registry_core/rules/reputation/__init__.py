"""From evidence about a node to its reputation: pure functions, no I/O, no clock.

The simple door: `score({"correctness": Evidence(successes, failures)}, standing)` gives a `Reputation`,
`after_task(evidence, task_success)` the evidence after one more task.
"""

from __future__ import annotations

from registry_core.rules.reputation.beta import beta_quantile, lower_bound
from registry_core.rules.reputation.scoring import NEWCOMER, NEWCOMER_SCORE, after_task, score

__all__ = ["NEWCOMER", "NEWCOMER_SCORE", "after_task", "beta_quantile", "lower_bound", "score"]
