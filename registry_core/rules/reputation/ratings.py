"""Ratings of nodes by nodes, weighted by the trust that flows from seed nodes to the rater.

`scoring` limits the share of ratings in a node's evidence.

Related to evidence-based subjective logic: Škorić, de Hoogh, Zannone, "Flow-based reputation with uncertainty",
International Journal of Information Security 2015. With plain lists, a million ratings take about ten seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from operator import mul, sub

from registry_core.errors import ValidationError
from registry_core.models.reputation import Evidence
from registry_core.rules.reputation.policy import DEFAULT_POLICY

__all__ = ["RatingBatch", "evidence_from_ratings", "weigh_ratings"]

_ENOUGH = 1e-3  # the remaining error, summed over all nodes; the average node has trust 1
_MOST_STEPS = 200


@dataclass(frozen=True)
class RatingBatch:
    """The result of one pass over all ratings.

    `trust` sums to 1 over all nodes; `weights` is the weight of one rating of each rater (0 to 1); `evidence` is the
    resulting evidence for each rated node.
    """

    trust: Mapping[str, float]
    weights: Mapping[str, float]
    evidence: Mapping[str, Evidence]


def evidence_from_ratings(
    ratings: Iterable[tuple[str, str, float]],
    seeds: Collection[str],
    *,
    restart: float = DEFAULT_POLICY.rating_restart,
) -> RatingBatch:
    """The evidence from triples (rater, rated, value from −1 to 1); for one pair the latest counts.

    t = (1 − a) Cᵀ t + a p with a = `restart`, C each rater's positive ratings, squared and normalised to sum 1, and p
    uniform over `seeds`; the trust of a rater without positive ratings returns to the seeds. Because of the square, a
    weak rating of a stranger passes on almost no trust. A rating of u has the weight min(1, n · t_u / √outdegree_u).
    Raises ValidationError if there is no seed or a value is invalid.
    """
    latest = {(rater, rated): value for rater, rated, value in ratings if rater != rated}
    for (rater, rated), value in latest.items():
        if not -1.0 <= value <= 1.0:  # NaN fails too
            raise ValidationError(f"rating of {rated} by {rater}", value, "must be a number from -1 to 1")
    if not seeds:
        raise ValidationError("seeds", [], "must name at least one trusted node")
    # Sorted, so that neither the order of the ratings nor hash seeds change the last bit of a sum.
    names = sorted({name for pair in latest for name in pair}.union(seeds))
    place = {name: index for index, name in enumerate(names)}
    edges = sorted((place[rater], place[rated], value) for (rater, rated), value in latest.items())
    trust = _flow(len(names), edges, frozenset(place[seed] for seed in seeds), restart)
    weights = weigh_ratings(trust, edges)
    return RatingBatch(
        dict(zip(names, trust)),
        {names[rater]: weight for rater, weight in weights.items()},
        {names[rated]: evidence for rated, evidence in sorted(_gather(edges, weights).items())},
    )


def weigh_ratings(trust: Sequence[float], edges: Iterable[tuple[int, int, float]]) -> dict[int, float]:
    """The weight of one rating of each rater: its trust, relative to the average node, spread over its ratings.

    No rating weighs more than 1 or n · t_u, and all ratings of one rater together at most n · t_u · √outdegree: more
    ratings do not increase a rater's influence in proportion.
    """
    outdegrees = Counter(edge[0] for edge in edges)
    nodes = len(trust)
    return {rater: min(1.0, nodes * trust[rater] / sqrt(count)) for rater, count in outdegrees.items()}


def _flow(nodes: int, edges: list[tuple[int, int, float]], seeds: frozenset[int], restart: float) -> list[float]:
    """The fixed point of the trust flow, by power iteration: each step multiplies the error by 1 − `restart`."""
    given = [0.0] * nodes
    for rater, _, value in edges:
        if value > 0.0:
            given[rater] += value * value
    sources: list[list[int]] = [[] for _ in range(nodes)]
    shares: list[list[float]] = [[] for _ in range(nodes)]
    for rater, rated, value in edges:
        if value > 0.0:
            sources[rated].append(rater)
            shares[rated].append((1.0 - restart) * value * value / given[rater])
    praised = [index for index in range(nodes) if sources[index]]
    dangling = [index for index, total in enumerate(given) if total == 0.0]
    trust = [1.0 / len(seeds) if index in seeds else 0.0 for index in range(nodes)]
    for _ in range(_MOST_STEPS):
        read = trust.__getitem__
        returned = restart + (1.0 - restart) * sum(map(read, dangling))
        following = [0.0] * nodes
        for index in praised:
            following[index] = sum(map(mul, shares[index], map(read, sources[index])))
        for index in seeds:
            following[index] += returned / len(seeds)
        change = sum(map(abs, map(sub, following, trust)))
        trust = following
        if change * nodes < _ENOUGH:
            break
    return trust


def _gather(edges: list[tuple[int, int, float]], weights: Mapping[int, float]) -> dict[int, Evidence]:
    good: dict[int, float] = {}
    bad: dict[int, float] = {}
    for rater, rated, value in edges:
        if value > 0.0:
            good[rated] = good.get(rated, 0.0) + weights[rater] * value
        elif value < 0.0:
            bad[rated] = bad.get(rated, 0.0) - weights[rater] * value
    return {rated: Evidence(good.get(rated, 0.0), bad.get(rated, 0.0)) for rated in good.keys() | bad.keys()}
