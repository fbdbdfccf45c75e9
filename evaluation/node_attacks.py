"""Attacks by a node's own behaviour, against the product's rules: what they cost the attacker, and what they gain.

The attacker knows the rules. Every result is checked with `audit_probability`; a wrong result that was not checked is
accepted: the damage. Only checked results are evidence.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from evaluation.attendance_attacks import evaluate_attendance
from registry_core.models.reputation import Evidence
from registry_core.models.status import Admission
from registry_core.rules.reputation import (
    DEFAULT_POLICY,
    EvidenceState,
    Outcome,
    Tombstone,
    audit_probability,
    next_standing,
    record,
    reputation_of,
    starting_record,
    with_standing,
)

__all__ = ["evaluate_node_attacks"]

_RUNS = 200
_TASKS = 3000
_SECONDS_BETWEEN_TASKS = 600.0


def evaluate_node_attacks(runs: int = _RUNS) -> dict[str, Any]:
    """All of them as one JSON value, averaged over `runs` attackers."""
    return {
        "schema": "duxnet.evaluation.node_attacks/1.0",
        "whitewashing": _whitewashing(runs),
        "on_off": _on_off(max(1, runs // 10)),
        "bad_mouthing": _bad_mouthing(),
        "wallet_abuse": _wallet_abuse(),
        "attendance": evaluate_attendance(),
    }


class _Node:
    """An attacker's node under the rules."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.state = EvidenceState(first_seen_seconds=0.0)
        self.standing = Admission.PROBATION
        self.now = 0.0
        self.accepted_wrong = 0
        self.caught = 0

    @property
    def works(self) -> bool:
        return self.standing in (Admission.PROBATION, Admission.APPROVED)

    def deliver(self, *, right: bool) -> None:
        """One result: checked or not, and what follows from it."""
        self.now += _SECONDS_BETWEEN_TASKS
        if self._rng.random() >= audit_probability(self.state):
            self.accepted_wrong += not right
            return
        self.caught += not right
        weight = 1.0 if right else DEFAULT_POLICY.wrong_result_weight
        self.state = record(self.state, Outcome(right, weight=weight), self.now)
        change = next_standing(self.standing, self.state, self.now)
        if change is not None:
            self.state = with_standing(self.state, change, self.now)
            self.standing = change.to


def _whitewashing(runs: int) -> dict[str, Any]:
    """Work honestly `honest` times, then cheat until caught, leave, and come back under a new key."""
    rows = []
    for honest in (5, 20, 60, 200, 1000):
        rng = random.Random(honest)
        wrong = []
        for _ in range(runs):
            node = _Node(rng)
            for _ in range(honest):
                node.deliver(right=True)
            while not node.caught:
                node.deliver(right=False)
            wrong.append(node.accepted_wrong)
        rows.append(
            {
                "honest_tasks_for_each_identity": honest,
                "accepted_wrong_for_each_identity": round(sum(wrong) / runs, 2),
                "score_on_return": round(reputation_of(starting_record(None).evidence).score, 2),
            }
        )
    return {"cost": "honest work and one admission for each identity", "rows": rows}


def _on_off(runs: int) -> dict[str, Any]:
    """Cheat only while checks are at most 5 %, at a given rate; work honestly otherwise."""
    rows = []
    for rate in (0.02, 0.1, 0.5, 1.0):
        rng = random.Random(int(rate * 1000))
        wrong = done = banned = 0
        for _ in range(runs):
            node = _Node(rng)
            for _ in range(_TASKS):
                if not node.works:
                    banned += 1
                    break
                node.deliver(right=audit_probability(node.state) > 0.05 or rng.random() >= rate)
                done += 1
            wrong += node.accepted_wrong
        rows.append(
            {
                "cheats_when_unwatched": rate,
                "accepted_wrong_share_of_work": round(wrong / done, 4),
                "suspended_share": round(banned / runs, 2),
            }
        )
    return {"cost": "honest work to be watched less again after each discovery", "tasks": _TASKS, "rows": rows}


def _bad_mouthing() -> dict[str, Any]:
    """Any number of raters, trusted without limit, all say the node is bad: the cap on ratings is what holds."""
    rows = []
    for tasks in (5, 20, 100, 1000):
        state = EvidenceState()
        for index in range(tasks):
            state = record(state, Outcome(True), float(index + 1))
        slandered = replace(state, ratings=Evidence(0.0, 1e9))
        rows.append(
            {
                "clean_tasks": tasks,
                "score_before": round(reputation_of(state).score, 2),
                "score_under_all_slander": round(reputation_of(slandered).score, 2),
            }
        )
    return {"cost": "the trust of the whole network; without trust no effect at all", "rows": rows}


def _wallet_abuse() -> dict[str, Any]:
    """Nodes that name a victim's wallet fail; then the victim registers another node."""
    failed = EvidenceState(first_seen_seconds=0.0)
    for index in range(50):
        failed = record(failed, Outcome(False, weight=5.0), float(index + 1))
    bad = Tombstone(failed, Admission.BANNED)
    unverified = starting_record(None, ())
    verified = starting_record(None, (bad,))
    return {
        "cost": "naming a wallet is free; verifying one needs its key",
        "victim_after_abuse_of_unverified_wallet": {
            "score": round(reputation_of(unverified.evidence).score, 2),
            "standing": str(unverified.standing),
        },
        "owner_after_own_failures_under_verified_wallet": {
            "score": round(reputation_of(verified.evidence).score, 2),
            "standing": str(verified.standing),
        },
    }
