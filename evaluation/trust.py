"""How well ratings by others find the fraudulent nodes of a network: AUC by protocol and method.

Protocols. full: all ratings; the labels of the known sets follow from ratings that the labelled node received, so this
leaks. leak_free: without the ratings that a benign-labelled node gave a labelled one. temporal: the earlier half of all
ratings, and the labelled nodes that were rated by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.files import Network, read_labels, read_network, sha256_of
from evaluation.measures import auc, bootstrap_auc, quantiles
from evaluation.methods import METHODS, RANKING_BOUND, Method, Triple
from registry_core.rules.reputation import DEFAULT_POLICY

__all__ = ["BadSeedsError", "PROTOCOLS", "chosen_seeds", "evaluate_trust", "leak_free_auc"]

PROTOCOLS = ("full", "leak_free", "temporal")
DEFAULT_SEEDS = "earliest:5"
_MOST_RESAMPLED_CASES = 400_000
_OURS = "trust_budgeted"


class BadSeedsError(Exception):
    """The seeds asked for cannot be had; the text says why."""


def chosen_seeds(network: Network, rule: str) -> list[str]:
    """The nodes that `earliest:K` (the K earliest raters) or `ID,ID,…` names. Raises BadSeedsError."""
    if rule.startswith("earliest:"):
        count = rule[len("earliest:") :]
        if not count.isdecimal() or int(count) < 1:
            raise BadSeedsError(f"earliest:K needs a whole number from 1 on, not {count!a}")
        return network.earliest_raters(int(count))
    seeds = list(dict.fromkeys(part.strip() for part in rule.split(",") if part.strip()))
    nodes = network.nodes
    missing = [seed for seed in seeds if seed not in nodes]
    if missing or not seeds:
        raise BadSeedsError(f"no such node in the network: {', '.join(missing) or ascii(rule)}")
    return seeds


def evaluate_trust(network_file: Path, labels_file: Path, seeds: str = DEFAULT_SEEDS) -> dict[str, Any]:
    """The whole figure set as one JSON value. Raises BadFileError, BadSeedsError."""
    network = read_network(network_file)
    labels = read_labels(labels_file)
    chosen = chosen_seeds(network, seeds)
    report: dict[str, Any] = {
        "schema": "duxnet.evaluation.trust/1.0",
        "network": {
            "file": network_file.name,
            "sha256": network.sha256,
            "ratings": len(network.ratings),
            "nodes": len(network.nodes),
            "scale": network.scale,
            "self_ratings_dropped": network.self_ratings,
            "repeated_pairs_dropped": network.repeated_pairs,
        },
        "labels": {
            "file": labels_file.name,
            "sha256": sha256_of(labels_file),
            "benign": sum(not fraudulent for fraudulent in labels.values()),
            "fraudulent": sum(labels.values()),
            "outside_network": len(labels.keys() - network.nodes),
        },
        "seeds": {"rule": seeds, "nodes": chosen[:100]},
        "parameters": {"restart": DEFAULT_POLICY.rating_restart, "ranking_bound": RANKING_BOUND},
    }
    intervals: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        triples, cases = _protocol(protocol, network, labels)
        report[protocol], intervals[protocol], gains[protocol] = _figures(triples, cases, chosen)
    report["intervals"] = {"resampled": "cases within each class", "level": 0.95, **intervals}
    report["gain_over_beta_mean"] = gains
    report["seed_ablation"] = _ablation(network, labels, chosen)
    return report


def leak_free_auc(network_file: Path, labels_file: Path, seeds: str) -> float:
    """The leak-free AUC of the product's method alone. Raises BadFileError, BadSeedsError."""
    network = read_network(network_file)
    triples, cases = _protocol("leak_free", network, read_labels(labels_file))
    suspicions = _suspicions(METHODS[_OURS], triples, chosen_seeds(network, seeds), cases)
    return round(auc(suspicions, list(cases.values())), 4)


def _protocol(protocol: str, network: Network, labels: Mapping[str, bool]) -> tuple[list[Triple], dict[str, bool]]:
    """The ratings that a protocol lets a method see, and the cases it is judged on."""
    triples = [rating[:3] for rating in network.ratings]
    if protocol == "leak_free":
        kept = [t for t in triples if not (t[1] in labels and labels.get(t[0]) is False)]
        return kept, dict(labels)
    if protocol == "temporal":
        early = triples[: len(triples) // 2 + 1]
        rated = {triple[1] for triple in early}
        return early, {node: fraudulent for node, fraudulent in labels.items() if node in rated}
    return triples, dict(labels)


def _figures(
    triples: Sequence[Triple], cases: Mapping[str, bool], seeds: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    about: dict[str, Any] = {"ratings": len(triples), "labelled": len(cases), "fraudulent": sum(cases.values())}
    if len(set(cases.values())) < 2:
        return {**about, "auc": dict.fromkeys(METHODS)}, {}, None  # nothing to tell apart: null, not a made-up figure
    positive = list(cases.values())
    suspicions = {name: _suspicions(method, triples, seeds, cases) for name, method in METHODS.items()}
    resamples = max(20, min(1000, _MOST_RESAMPLED_CASES // len(cases)))
    drawn = bootstrap_auc(suspicions, positive, resamples)
    figures = {name: round(auc(suspicion, positive), 4) for name, suspicion in suspicions.items()}
    intervals = {name: [round(x, 3) for x in quantiles(values, (0.025, 0.975))] for name, values in drawn.items()}
    gain = [ours - beta for ours, beta in zip(drawn[_OURS], drawn["beta_mean"])]
    return {**about, "auc": figures}, intervals, [round(x, 3) for x in quantiles(gain, (0.025, 0.975))]


def _suspicions(
    method: Method, triples: Sequence[Triple], seeds: Sequence[str], cases: Mapping[str, bool]
) -> list[float]:
    scores, unrated = method(triples, seeds)
    return [-scores.get(node, unrated) for node in cases]


def _ablation(network: Network, labels: Mapping[str, bool], chosen: Sequence[str]) -> dict[str, Any]:
    """Leak-free AUC of the product's method under other seeds."""
    triples, cases = _protocol("leak_free", network, labels)
    rules = {
        "as_asked": list(chosen),
        **{f"earliest:{count}": network.earliest_raters(count) for count in (1, 5, 20)},
        "all_nodes": sorted(network.nodes),
    }
    positive = list(cases.values())
    return {
        rule: round(auc(_suspicions(METHODS[_OURS], triples, seeds, cases), positive), 4)
        for rule, seeds in rules.items()
    }
