"""What checking results costs, and what slips through: the product's audits beside always-twice and BOINC's rule.

Some hosts are bad and err at a rate; bad hosts may belong to groups whose members give the same wrong answer. A check
computes the job once more on another host; if the two differ, a third decides.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable

from registry_core.rules.reputation import DEFAULT_POLICY, EvidenceState, Outcome, audit_probability, record

__all__ = ["evaluate_verification"]

HOSTS = 500
JOBS_FOR_EACH_HOST = 200
BAD_SHARE = 0.05
ERROR_RATE = 0.1
_BOINC_RUN = 10
_MOST_ANSWERS = 7


@dataclass(frozen=True)
class _Scene:
    """How bad hosts stand together: `group` of them answer alike; `seen` is the chance that a pair of one group is
    known for one (wallet, network, rating ring) and kept from checking each other."""

    name: str
    group: int
    seen: float


SCENES = (
    _Scene("no collusion", 1, 0.0),
    _Scene("groups of 5, half seen", 5, 0.5),
    _Scene("one group, unseen", 25, 0.0),
)

Rule = Callable[[random.Random, "_Host"], bool]


class _Host:
    """A host, what the product knows of it, and its run of valid results as BOINC counts it."""

    def __init__(self, number: int, group: int) -> None:
        self.number = number
        self.group = group  # 0: honest
        self.state = EvidenceState()
        self.run = 0


def always_twice(_rng: random.Random, _host: _Host) -> bool:
    """Every job is computed twice."""
    return True


def boinc(rng: random.Random, host: _Host) -> bool:
    """BOINC sched: checked until 10 valid results in a row, then with probability 1 / run."""
    return host.run < _BOINC_RUN or rng.random() < 1.0 / host.run


def audits(rng: random.Random, host: _Host) -> bool:
    """The product: `audit_probability`."""
    return rng.random() < audit_probability(host.state)


RULES: dict[str, Rule] = {"always_twice": always_twice, "boinc": boinc, "audit_probability": audits}


def evaluate_verification() -> dict[str, Any]:
    """Work for each job and accepted errors of each rule in each scene, as one JSON value."""
    return {
        "schema": "duxnet.evaluation.verification/1.0",
        "setting": {
            "hosts": HOSTS,
            "jobs": HOSTS * JOBS_FOR_EACH_HOST,
            "bad_hosts": BAD_SHARE,
            "error_rate_of_bad_hosts": ERROR_RATE,
        },
        "scenes": {scene.name: {name: _run(rule, scene) for name, rule in RULES.items()} for scene in SCENES},
    }


def _run(rule: Rule, scene: _Scene) -> dict[str, float]:
    rng = random.Random(11)
    bad = int(HOSTS * BAD_SHARE)
    hosts = [_Host(number, 1 + number // scene.group if number < bad else 0) for number in range(HOSTS)]
    work = accepted = 0
    jobs = HOSTS * JOBS_FOR_EACH_HOST
    for job in range(jobs):
        host = hosts[rng.randrange(HOSTS)]
        answers = {host: _answer(rng, host)}
        if rule(rng, host):
            final = _decide(rng, hosts, answers, scene)
            _learn(host, right=answers[host] == final, at_seconds=float(job))
        else:
            final = answers[host]
        work += len(answers)
        accepted += final != 0
    return {"work_for_each_job": round(work / jobs, 3), "accepted_error": round(accepted / jobs, 5)}


def _answer(rng: random.Random, host: _Host, job_is_attacked_by: int = 0) -> int:
    """0 is right; a wrong answer is the number of the group that agreed on it."""
    if host.group == 0:
        return 0
    if job_is_attacked_by:
        return host.group if host.group == job_is_attacked_by else 0
    return host.group if rng.random() < ERROR_RATE else 0


def _decide(rng: random.Random, hosts: list[_Host], answers: dict[_Host, int], scene: _Scene) -> int:
    """Ask others until one answer was given twice: that is what the registry believes."""
    first = next(iter(answers.values()))
    host = next(iter(answers))
    while len(answers) < _MOST_ANSWERS:
        other = hosts[rng.randrange(HOSTS)]
        together = other.group == host.group != 0
        if other in answers or (together and rng.random() < scene.seen):
            continue
        # A group that attacks a job attacks it together.
        answers[other] = _answer(rng, other, first if scene.group > 1 else 0)
        for answer in answers.values():
            if list(answers.values()).count(answer) > 1 and (answer == 0 or scene.group > 1):
                return answer
    return 0


def _learn(host: _Host, *, right: bool, at_seconds: float) -> None:
    weight = 1.0 if right else DEFAULT_POLICY.wrong_result_weight
    host.state = record(host.state, Outcome(right, weight=weight), at_seconds)
    host.run = host.run + 1 if right else 0
