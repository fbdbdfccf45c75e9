"""What nodes say of each other, weighed by the trust that flows to the sayer.

Here: trust from seeds, the budget of each rater, and the evidence that follows for the rated. Not here: how much
of a node's evidence ratings may be (`scoring`), and who may rate (the registry).

A relative of evidence-based subjective logic: Škorić, de Hoogh, Zannone, "Flow-based reputation with uncertainty",
International Journal of Information Security 2015. Plain lists: a million ratings take about ten seconds of one core.
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

_ENOUGH = 1e-3  # the error left, summed over all nodes, where the average node holds 1
_MOST_STEPS = 200


@dataclass(frozen=True)
class RatingBatch:
    """What one pass over all ratings gives.

    `trust` sums to 1 over all nodes; `weights` is what one rating of each rater counts (0 to 1); `evidence`
    is what follows for each rated node.
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
    """The evidence that (rater, rated, value from −1 to 1) triples give; of one pair the latest wins.

    t = (1 − a) Cᵀ t + a p with a = `restart`, C each rater's positive ratings squared and shared out to sum 1, p
    uniform over `seeds`; what a rater without positive ratings holds returns to the seeds. The square lets trust
    follow conviction: a lukewarm rating given to a stranger passes almost none. A rating of u counts
    min(1, n · t_u / √outdegree_u). Raises ValidationError for no seed, or a value that is none.
    """
    latest = {(rater, rated): value for rater, rated, value in ratings if rater != rated}
    for (rater, rated), value in latest.items():
        if not -1.0 <= value <= 1.0:  # NaN fails it too
            raise ValidationError(f"rating of {rated} by {rater}", value, "must be a number from -1 to 1")
    if not seeds:
        raise ValidationError("seeds", [], "must name at least one trusted node")
    # Sorted, so that neither the order of arrival nor hash seeds change the last bit of a sum.
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
    """What one rating of each rater counts: its trust, measured in average nodes, spread over what it says.

    No rating counts more than 1 or more than n · t_u, and all of one rater's together at most n · t_u · √outdegree:
    rating more of the network does not buy influence in proportion.
    """
    said = Counter(edge[0] for edge in edges)
    nodes = len(trust)
    return {rater: min(1.0, nodes * trust[rater] / sqrt(count)) for rater, count in said.items()}


def _flow(nodes: int, edges: list[tuple[int, int, float]], seeds: frozenset[int], restart: float) -> list[float]:
    """The fixed point of the trust flow, by power iteration: each step shrinks the error by 1 − `restart`."""
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
