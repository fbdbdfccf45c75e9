"""What reputation costs: catches a slow quantile, an outcome that scans, and a rating batch that is not linear."""

from __future__ import annotations

import random
import statistics
import time
from typing import Callable

from registry_core.rules.reputation import (
    EvidenceState,
    Outcome,
    beta_quantile,
    evidence_from_ratings,
    record,
    reputation_of,
)


def microseconds_of_outcomes(count: int = 5000) -> tuple[float, float]:
    """Median µs of recording one outcome with a task id among 1,024, and of the score that follows."""
    state = EvidenceState()
    recording: list[float] = []
    scoring: list[float] = []
    for index in range(count):
        start = time.perf_counter()
        state = record(state, Outcome(index % 17 != 0, task_id=f"task-{index}"), 1e9 + index)
        between = time.perf_counter()
        reputation_of(state)
        recording.append(between - start)
        scoring.append(time.perf_counter() - between)
    return statistics.median(recording) * 1e6, statistics.median(scoring) * 1e6


def microseconds_of_quantiles(count: int = 2000) -> float:
    """Mean µs of a quantile that no cache holds."""
    rng = random.Random(1)
    pairs = [(1.0 + rng.random() * 900.0, 1.0 + rng.random() * 40.0) for _ in range(count)]
    start = time.perf_counter()
    for alpha, beta in pairs:
        beta_quantile(0.05, alpha, beta)
    return (time.perf_counter() - start) / count * 1e6


def seconds_of_rating_batch(nodes: int, ratings: int) -> float:
    """Seconds of one pass over random ratings."""
    rng = random.Random(2)
    names = [f"n1{index:06}" for index in range(nodes)]
    triples = [(rng.choice(names), rng.choice(names), rng.choice([1.0, 0.5, -1.0])) for _ in range(ratings)]
    start = time.perf_counter()
    evidence_from_ratings(triples, names[:5])
    return time.perf_counter() - start


def main(say: Callable[[str], None] = print) -> None:
    """Print the figures."""
    recording, scoring = microseconds_of_outcomes()
    say(f"one outcome: {recording:.0f} µs, its score {scoring:.0f} µs, a quantile {microseconds_of_quantiles():.0f} µs")
    small = seconds_of_rating_batch(10_000, 100_000)
    large = seconds_of_rating_batch(100_000, 1_000_000)
    say(f"a rating batch of 10^4 nodes and 10^5 ratings: {small:.2f} s; of ten times as many: {large:.1f} s")


if __name__ == "__main__":
    main()
