"""Attacks by ratings on a real rating network: what they cost, and what they do under each method.

Damage: the share of Sybils that rank above the median benign node, and how far the slandered fall (in shares of all
honest nodes). An attack edge is a rating of a Sybil by a random honest rater who was careless or deceived.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from evaluation.files import Network, read_labels, read_network
from evaluation.methods import METHODS, Scores, Triple
from evaluation.trust import DEFAULT_SEEDS, chosen_seeds

__all__ = ["evaluate_attacks"]

SYBILS = 100
RING_RATINGS = 20
VICTIMS = 25
SLANDERS = 5
EDGES = (0, 5, 50, 200)
TAKEOVER_EDGES = (0, 50, 200, 500, 1000)
COMPARED = ("mean", "beta_mean", "eigentrust", "fairness_goodness", "rev2", "trust_budgeted")
_REPEATS = 3
_LUKEWARM = 0.1  # +1 of 10: what careless raters give in the networks at hand


def evaluate_attacks(
    network_file: Path, labels_file: Path, seeds: str = DEFAULT_SEEDS, edges: Sequence[int] = EDGES
) -> dict[str, Any]:
    """The attacks by ratings as one JSON value. Raises BadFileError, BadSeedsError."""
    network = read_network(network_file)
    labels = read_labels(labels_file)
    field = _Field(network, labels, chosen_seeds(network, seeds))
    return {
        "schema": "duxnet.evaluation.attacks/1.0",
        "network": {"file": network_file.name, "sha256": network.sha256},
        "seeds": {"rule": seeds, "nodes": field.seeds[:100]},
        "repeats": _REPEATS,
        "sybil_ring_with_slander": {
            "cost": f"{SYBILS} identities; attack edges of +1 of 10 as given",
            "by_method": {name: field.ring(name, edges, _LUKEWARM, slander=True) for name in COMPARED},
        },
        "slow_takeover": {
            "cost": f"{SYBILS} identities that earn full praise (+10 of 10) from as many honest raters as given",
            "by_method": {"trust_budgeted": field.ring("trust_budgeted", TAKEOVER_EDGES, 1.0, slander=True)},
        },
        "bought_seed": field.bought_seed(),
    }


class _Field:
    """A network, who is benign in it, and how things stand before an attack."""

    def __init__(self, network: Network, labels: Mapping[str, bool], seeds: list[str]) -> None:
        self.triples: list[Triple] = [rating[:3] for rating in network.ratings]
        self.seeds = seeds
        self._raters = sorted({triple[0] for triple in self.triples})
        self._nodes = sorted(network.nodes)
        self._benign = sorted(node for node, fraudulent in labels.items() if not fraudulent and node in network.nodes)

    def ring(self, method: str, edges: Sequence[int], praise: float, *, slander: bool) -> list[dict[str, float]]:
        """One row of damage for each number of attack edges, averaged over repeats."""
        before = METHODS[method](self.triples, self.seeds)
        rows = []
        for count in edges:
            damage = []
            for repeat in range(_REPEATS):
                rng = random.Random(1000 * repeat + count)
                sybils, victims, added = self._attack(rng, count, praise, slander)
                after = METHODS[method](self.triples + added, self.seeds)
                damage.append((self._above_median(after, sybils), self._fall(before, after, victims)))
            rows.append(
                {
                    "attack_edges": count,
                    "sybils_above_median_benign": round(mean(above for above, _ in damage), 3),
                    "victims_percentile_change": round(mean(fall for _, fall in damage), 3),
                }
            )
        return rows

    def bought_seed(self) -> dict[str, Any]:
        """One seed of the attacker's praises every Sybil and nobody else from now on."""
        rng = random.Random(5)
        seeds = self.seeds if len(self.seeds) > 1 else [*self.seeds, self._raters[0]]
        sybils, victims, added = self._attack(rng, 0, 0.0, True)
        before = METHODS["trust_budgeted"](self.triples, seeds)
        rows = {}
        for praised in (1, 10, SYBILS):
            praise = [(seeds[0], sybil, 1.0) for sybil in sybils[:praised]]
            after = METHODS["trust_budgeted"](self.triples + added + praise, seeds)
            rows[str(praised)] = {
                "sybils_above_median_benign": round(self._above_median(after, sybils), 3),
                "victims_percentile_change": round(self._fall(before, after, victims), 3),
            }
        return {"cost": f"1 of {len(seeds)} seeds, {SYBILS} identities", "by_sybils_praised": rows}

    def _attack(
        self, rng: random.Random, edges: int, praise: float, slander: bool
    ) -> tuple[list[str], list[str], list[Triple]]:
        sybils = [f"sybil:{index}" for index in range(SYBILS)]
        victims = rng.sample(self._benign, min(VICTIMS, len(self._benign)))
        added: list[Triple] = []
        for sybil in sybils:
            added += [(sybil, other, 1.0) for other in rng.sample([s for s in sybils if s != sybil], RING_RATINGS)]
            if slander:
                added += [(sybil, victim, -1.0) for victim in rng.sample(victims, min(SLANDERS, len(victims)))]
        deceived = rng.sample(self._raters, min(edges, len(self._raters)))
        added += [(rater, rng.choice(sybils), praise) for rater in deceived]
        return sybils, victims, added

    def _above_median(self, scored: Scores, sybils: Sequence[str]) -> float:
        scores, unrated = scored
        middle = median(scores.get(node, unrated) for node in self._benign)
        return mean(float(scores.get(sybil, unrated) > middle) for sybil in sybils)

    def _fall(self, before: Scores, after: Scores, victims: Sequence[str]) -> float:
        return mean(self._percentile(after, victim) - self._percentile(before, victim) for victim in victims)

    def _percentile(self, scored: Scores, node: str) -> float:
        scores, unrated = scored
        mine = scores.get(node, unrated)
        return mean(float(scores.get(other, unrated) < mine) for other in self._nodes)
