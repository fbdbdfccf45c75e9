"""How well "stays up for the next window" is foretold on an availability trace, prequentially.

Every `unit` hours of the trace each host that is up is asked about; the answer is known one unit later, and only then
learnt. Figures are over the later half of the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.files import BadFileError, Host, Trace, read_trace
from evaluation.forecasters import FORECASTERS, Beta, Forecaster
from evaluation.measures import auc, brier, calibration, log_loss
from registry_core.rules.reputation import DEFAULT_POLICY, beta_quantile

__all__ = ["evaluate_availability"]

_MOST_QUESTIONS = 1_300_000  # what seven forecasters in plain Python answer within a minute
_LEAST_QUESTIONS = 100
_BOUND_EVERY = 10
_LEAD_KEPT = 0.97  # a week of windows counts, about

Question = tuple[int, int]
"""(host, 1 if it stayed up)"""


def evaluate_availability(trace_file: Path) -> dict[str, Any]:
    """The whole figure set as one JSON value. Raises BadFileError."""
    trace = read_trace(trace_file)
    unit = DEFAULT_POLICY.availability_unit_hours * 3600.0
    stride = _stride(trace, unit)
    hosts = trace.hosts[::stride]
    steps = _questions(hosts, trace.start, trace.end, unit)
    asked = sum(map(len, steps))
    if asked < _LEAST_QUESTIONS:
        raise BadFileError(trace_file, None, f"gives {asked} questions; {_LEAST_QUESTIONS} are needed for a figure")
    outcomes = [stayed for step in steps for _, stayed in step][asked // 2 :]
    report: dict[str, Any] = {
        "schema": "duxnet.evaluation.availability/1.0",
        "trace": {
            "file": trace_file.name,
            "sha256": trace.sha256,
            "hosts": len(trace.hosts),
            "hosts_used": len(hosts),
            "sampling": "all hosts" if stride == 1 else f"every {stride}th host in the file's order",
            "days": round((trace.end - trace.start) / 86_400.0, 2),
        },
        "window_hours": DEFAULT_POLICY.availability_unit_hours,
        "questions": asked,
        "measured_on": f"the last {len(outcomes)} questions",
        "base_rate": round(sum(stayed for step in steps for _, stayed in step) / asked, 4),
        "parameters": {
            "kept": DEFAULT_POLICY.availability_kept,
            "prior_strength": DEFAULT_POLICY.availability_prior_strength,
        },
        **{measure: {} for measure in ("brier", "brier_skill", "log_loss", "ece", "auc")},
    }
    answers: dict[str, list[float]] = {}
    for name, make in FORECASTERS.items():
        answers[name] = _answers(make(), steps, trace.start, unit)
        _note(report, name, answers[name][asked // 2 :], outcomes)
    guarded = _guarded(answers["beta"], answers["logistic_on_beta"], steps)
    _note(report, "guarded_logistic", guarded[asked // 2 :], outcomes)
    bound = _bounds(steps, trace.start, unit)
    _note(report, "beta_lower_bound", [p for p, _ in bound], [y for _, y in bound])
    report["notes"] = {"beta_lower_bound": f"on every {_BOUND_EVERY}th host: a bound is a gate, not a probability"}
    return report


def _note(report: dict[str, Any], name: str, forecasts: Sequence[float], outcomes: Sequence[int]) -> None:
    error, table = calibration(forecasts, outcomes)
    reached = brier(forecasts, outcomes)
    report["brier"][name] = round(reached, 5)
    report["brier_skill"][name] = round(1.0 - reached / report["brier"]["base_rate"], 4) if reached else 1.0
    report["log_loss"][name] = round(log_loss(forecasts, outcomes), 5)
    report["ece"][name] = round(error, 4)
    mixed = len(set(outcomes)) > 1
    report["auc"][name] = round(auc(forecasts, [bool(y) for y in outcomes]), 4) if mixed else None
    if name == "beta":
        report["reliability"] = [{"forecast": round(p, 4), "happened": round(y, 4), "cases": n} for p, y, n in table]


def _stride(trace: Trace, unit: float) -> int:
    """Every how manieth host is taken so that the questions stay within bounds; a rule, so that all take the same."""
    estimate = sum(end - start for host in trace.hosts for start, end in host.up) / unit
    return max(1, -(-int(estimate) // _MOST_QUESTIONS))


def _questions(hosts: Sequence[Host], first: float, last: float, unit: float) -> list[list[Question]]:
    """For each step of the grid the hosts that are up, and whether they are up throughout the unit that follows.

    Questions whose answer lies beyond the trace's end are left out.
    """
    steps: list[list[Question]] = [[] for _ in range(int((last - first) // unit) + 1)]
    for number, host in enumerate(hosts):
        for start, end in host.up:
            step = int(-(-(start - first) // unit))
            while first + step * unit < end and first + (step + 1) * unit < last:
                steps[step].append((number, 1 if end > first + (step + 1) * unit else 0))
                step += 1
    return steps


def _answers(forecaster: Forecaster, steps: Sequence[Sequence[Question]], first: float, unit: float) -> list[float]:
    answers: list[float] = []
    kept, known = 1.0, 2.0  # one label of either kind, so that the first answer is 1/2
    before: Sequence[Question] = ()
    for number, step in enumerate(steps):
        when = first + number * unit
        for host, stayed in before:
            forecaster.learn(host, when - unit, stayed)
            kept += stayed
        known += len(before)
        network = kept / known
        answers.extend(forecaster.forecast(host, when, network) for host, _ in step)
        before = step
    return answers


def _guarded(
    champion: Sequence[float], challenger: Sequence[float], steps: Sequence[Sequence[Question]]
) -> list[float]:
    """The challenger where its Brier score over the labels known by then, fading, beats the champion's; else he."""
    answers: list[float] = []
    lead = step_gain = 0.0
    place = 0
    for step in steps:
        lead = _LEAD_KEPT * lead + step_gain
        there = place + len(step)
        answers.extend((challenger if lead > 0.0 else champion)[place:there])
        step_gain = sum(
            (p - stayed) ** 2 - (q - stayed) ** 2
            for p, q, (_, stayed) in zip(champion[place:there], challenger[place:there], step)
        )
        place = there
    return answers


def _bounds(steps: Sequence[Sequence[Question]], first: float, unit: float) -> list[tuple[float, int]]:
    """(5 % bound, outcome) of the product's Beta over the later half, on every tenth host."""
    fewer = [[question for question in step if question[0] % _BOUND_EVERY == 0] for step in steps]
    outcomes = [stayed for step in fewer for _, stayed in step]
    return list(zip(_answers(_BoundOfBeta(), fewer, first, unit), outcomes))[len(outcomes) // 2 :]


class _BoundOfBeta(Beta):
    """The 5 % bound, asked as if it were a probability."""

    def forecast(self, host: int, when_seconds: float, network: float) -> float:
        mean = super().forecast(host, when_seconds, network)
        weight = DEFAULT_POLICY.availability_prior_strength
        if host in self.known:
            weight += sum(self.known[host])
        return beta_quantile(DEFAULT_POLICY.bound, mean * weight, (1.0 - mean) * weight)
