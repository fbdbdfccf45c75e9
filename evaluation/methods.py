"""Ways to rank the nodes of a rating network, each from its published formula, beside the product's own.

A method takes (rater, rated, value) triples and seeds, and gives a score for each node that has one and the score of a
node that nobody rated; higher is better. Parameters are the papers' defaults and are frozen: no label is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Callable

from registry_core.rules.reputation import beta_quantile, evidence_from_ratings, lower_bound

__all__ = ["METHODS", "Method", "Scores", "Triple"]

Triple = tuple[str, str, float]
Scores = tuple[Mapping[str, float], float]
Method = Callable[[Sequence[Triple], Sequence[str]], Scores]

RANKING_BOUND = 0.25  # ranking by opinions alone: the 5 % of the gate would rank by count more than by kind
_WILSON_Z = 1.645
_MOST_EDGE_VISITS = 6_000_000  # keeps any method within seconds; 24,000 ratings take 200 rounds of it


def _received(triples: Sequence[Triple]) -> dict[str, list[tuple[str, float]]]:
    received: dict[str, list[tuple[str, float]]] = {}
    for rater, rated, value in triples:
        received.setdefault(rated, []).append((rater, value))
    return received


def _counts(triples: Sequence[Triple], weight: Mapping[str, float] | None = None) -> dict[str, tuple[float, float]]:
    counts = {}
    for node, said in _received(triples).items():
        good = sum(max(value, 0.0) * (1.0 if weight is None else weight[rater]) for rater, value in said)
        bad = sum(max(-value, 0.0) * (1.0 if weight is None else weight[rater]) for rater, value in said)
        counts[node] = (good, bad)
    return counts


def _rounds(triples: Sequence[Triple], most: int) -> range:
    return range(max(3, min(most, _MOST_EDGE_VISITS // max(1, len(triples)))))


def mean(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """The plain mean of ratings received."""
    return {node: sum(v for _, v in said) / len(said) for node, said in _received(triples).items()}, 0.0


def beta_mean(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """The posterior mean under Beta(1, 1) (Jøsang, Ismail 2002)."""
    return {node: (1.0 + r) / (2.0 + r + s) for node, (r, s) in _counts(triples).items()}, 0.5


def beta_lower_bound(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """Its 5 % quantile."""
    return {node: lower_bound(r, s) for node, (r, s) in _counts(triples).items()}, lower_bound(0.0, 0.0)


def wilson(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """The lower end of Wilson's interval for the share of praise, z = 1.645."""
    z = _WILSON_Z
    scores = {}
    for node, (r, s) in _counts(triples).items():
        n = r + s
        p = r / n if n > 0.0 else 0.0
        scores[node] = (p + z * z / 2 / n - z * sqrt((p * (1 - p) + z * z / 4 / n) / n)) / (1 + z * z / n) if n else 0.0
    return scores, 0.0


def beta_credibility(triples: Sequence[Triple], seeds: Sequence[str]) -> Scores:
    """The Beta mean with each rating weighed by its rater's own Beta mean, repeated to a fixed point."""
    scores, unknown = beta_mean(triples, seeds)
    for _ in _rounds(triples, 20):
        weight = {rater: scores.get(rater, unknown) for rater, _, _ in triples}
        scores = {node: (1.0 + r) / (2.0 + r + s) for node, (r, s) in _counts(triples, weight).items()}
    return scores, unknown


def eigentrust(triples: Sequence[Triple], seeds: Sequence[str]) -> Scores:
    """Kamvar, Schlosser, Garcia-Molina 2003: t = (1 − a) Cᵀ t + a p, a = 0.1; negatives are ignored."""
    restart = 0.1
    given: dict[str, list[tuple[str, float]]] = {}
    names = {name for rater, rated, _ in triples for name in (rater, rated)} | set(seeds)
    for rater, rated, value in triples:
        if value > 0.0:
            given.setdefault(rater, []).append((rated, value))
    totals = {rater: sum(value for _, value in said) for rater, said in given.items()}
    trust = {seed: 1.0 / len(seeds) for seed in seeds}
    for _ in _rounds(triples, 60):
        following = dict.fromkeys(sorted(names), 0.0)
        for rater, said in given.items():
            mine = (1.0 - restart) * trust.get(rater, 0.0) / totals[rater]
            if mine > 0.0:
                for rated, value in said:
                    following[rated] += mine * value
        lost = 1.0 - sum(following.values())
        for seed in seeds:
            following[seed] += lost / len(seeds)
        trust = following
    return trust, 0.0


def fairness_goodness(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """Kumar, Spezzano, Subrahmanian, Faloutsos, ICDM 2016: g = mean of f · w, f = 1 − mean of |w − g| / 2."""
    received = _received(triples)
    said_by: dict[str, list[tuple[str, float]]] = {}
    for rater, rated, value in triples:
        said_by.setdefault(rater, []).append((rated, value))
    fairness = dict.fromkeys(said_by, 1.0)
    goodness: dict[str, float] = {}
    for _ in _rounds(triples, 50):
        goodness = {n: sum(fairness[u] * w for u, w in said) / len(said) for n, said in received.items()}
        fairness = {u: 1.0 - sum(abs(w - goodness[n]) for n, w in said) / 2 / len(said) for u, said in said_by.items()}
    return goodness, 0.0


def rev2(triples: Sequence[Triple], _seeds: Sequence[str]) -> Scores:
    """Kumar, Hooi, Makhija, Kumar, Faloutsos, Subrahmanian, WSDM 2018, without behaviour, α₁ = β₁ = 1, γ = 1/2."""
    fairness = {rater: 1.0 for rater, _, _ in triples}
    goodness = {rated: 1.0 for _, rated, _ in triples}
    said = dict.fromkeys(fairness, 0)
    heard = dict.fromkeys(goodness, 0)
    for rater, rated, _ in triples:
        said[rater] += 1
        heard[rated] += 1
    reliable = [1.0] * len(triples)
    for _ in _rounds(triples, 50):
        total = dict.fromkeys(goodness, 0.0)
        for (_, rated, value), trust in zip(triples, reliable):
            total[rated] += trust * value
        goodness = {rated: value / (1.0 + heard[rated]) for rated, value in total.items()}
        reliable = [(fairness[u] + 1.0 - abs(w - goodness[v]) / 2.0) / 2.0 for u, v, w in triples]
        sums = dict.fromkeys(fairness, 0.5)
        for (rater, _, _), trust in zip(triples, reliable):
            sums[rater] += trust
        fairness = {rater: value / (1.0 + said[rater]) for rater, value in sums.items()}
    return goodness, 0.0


def trust_budgeted(triples: Sequence[Triple], seeds: Sequence[str]) -> Scores:
    """The product's own: Beta over ratings weighed by trust from seeds within a budget, at its 25 % bound."""
    evidence = evidence_from_ratings(triples, seeds).evidence
    scores = {node: beta_quantile(RANKING_BOUND, 1.0 + e.successes, 1.0 + e.failures) for node, e in evidence.items()}
    return scores, RANKING_BOUND


METHODS: Mapping[str, Method] = {
    "mean": mean,
    "beta_mean": beta_mean,
    "beta_lower_bound": beta_lower_bound,
    "wilson": wilson,
    "beta_credibility": beta_credibility,
    "eigentrust": eigentrust,
    "fairness_goodness": fairness_goodness,
    "rev2": rev2,
    "trust_budgeted": trust_budgeted,
}
