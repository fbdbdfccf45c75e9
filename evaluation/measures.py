"""How good a ranking or a probability is: AUC, its bootstrap interval, proper scores. No data formats."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from operator import itemgetter

__all__ = ["auc", "bootstrap_auc", "brier", "calibration", "log_loss", "quantiles"]

_LEAST_PROBABILITY = 1e-6  # what a forecaster who says "never" pays is finite


def auc(suspicion: Sequence[float], positive: Sequence[bool]) -> float:
    """The chance that a random positive is more suspect than a random negative; ties count half."""
    below = won = 0.0
    here = here_won = 0.0
    last = None
    for value, is_positive in sorted(zip(suspicion, positive)):
        if value != last:
            won += here_won * (below + here / 2.0)
            below += here
            here = here_won = 0.0
            last = value
        if is_positive:
            here_won += 1.0
        else:
            here += 1.0
    won += here_won * (below + here / 2.0)
    below += here
    return won / (below * (len(positive) - below))


def bootstrap_auc(
    suspicions: Mapping[str, Sequence[float]], positive: Sequence[bool], resamples: int, seed: int = 7
) -> dict[str, list[float]]:
    """AUCs of each method over `resamples` draws of the same cases with replacement, drawn within each class."""
    rng = random.Random(seed)
    classes = [[i for i, is_positive in enumerate(positive) if is_positive is wanted] for wanted in (True, False)]
    groups = {name: _groups(suspicion, positive) for name, suspicion in suspicions.items()}
    drawn: dict[str, list[float]] = {name: [] for name in suspicions}
    for _ in range(resamples):
        counts = [0] * len(positive)
        for members in classes:
            for index in rng.choices(members, k=len(members)):
                counts[index] += 1
        for name, ordered in groups.items():
            drawn[name].append(_weighted_auc(ordered, counts))
    return drawn


def quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """The values at these shares of the sorted list."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]


def brier(forecasts: Sequence[float], outcomes: Sequence[int]) -> float:
    """Mean squared error of the probabilities."""
    return sum((p - y) ** 2 for p, y in zip(forecasts, outcomes)) / len(outcomes)


def log_loss(forecasts: Sequence[float], outcomes: Sequence[int]) -> float:
    """Mean −ln of the probability given to what happened, each held within 10⁻⁶ of certainty."""
    least = _LEAST_PROBABILITY
    return -sum(math.log(min(max(p if y else 1.0 - p, least), 1.0 - least)) for p, y in zip(forecasts, outcomes)) / len(
        outcomes
    )


def calibration(
    forecasts: Sequence[float], outcomes: Sequence[int], bins: int = 20
) -> tuple[float, list[tuple[float, float, int]]]:
    """The expected calibration error over bins of equal mass, and (mean forecast, share happened, cases) of each."""
    order = sorted(zip(forecasts, outcomes), key=itemgetter(0))  # by outcome too, equal forecasts would look wrong
    table = []
    for index in range(bins):
        part = order[index * len(order) // bins : (index + 1) * len(order) // bins]
        if part:
            table.append((sum(p for p, _ in part) / len(part), sum(y for _, y in part) / len(part), len(part)))
    return sum(abs(p - y) * n for p, y, n in table) / len(order), table


def _groups(suspicion: Sequence[float], positive: Sequence[bool]) -> list[list[tuple[int, bool]]]:
    """Cases from the least suspect on, equals together."""
    groups: list[list[tuple[int, bool]]] = []
    last = None
    for index in sorted(range(len(suspicion)), key=suspicion.__getitem__):
        if suspicion[index] != last:
            groups.append([])
            last = suspicion[index]
        groups[-1].append((index, positive[index]))
    return groups


def _weighted_auc(groups: Sequence[Sequence[tuple[int, bool]]], counts: Sequence[int]) -> float:
    below = won = positives = 0.0
    for group in groups:
        here = [0.0, 0.0]
        for index, is_positive in group:
            here[is_positive] += counts[index]
        won += here[1] * (below + here[0] / 2.0)
        below += here[0]
        positives += here[1]
    return won / (positives * below)
