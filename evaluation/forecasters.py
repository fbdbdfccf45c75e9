"""Ways to say how likely a host that is up now stays up for the next window: the product's, others' rules, learners.

Each forecaster asks and learns in order of time; a label comes one window after its question. Not here: traces, scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, exp, log, pi, sin, sqrt
from typing import Callable, Protocol

from registry_core.rules.reputation import DEFAULT_POLICY

__all__ = ["FORECASTERS", "Forecaster"]

_DAY_SECONDS = 86_400.0
_DAYS_IN_WEEK = 7.0


class Forecaster(Protocol):
    """What every forecaster does; `network` is the mean of all labels known so far."""

    def forecast(self, host: int, when_seconds: float, network: float) -> float:
        """The probability that `host` stays up for a window from now on."""

    def learn(self, host: int, when_seconds: float, stayed: int) -> None:
        """What became of the question asked at `when_seconds`."""


class BaseRate:
    """The network's mean, for everybody."""

    def forecast(self, _host: int, _when_seconds: float, network: float) -> float:
        return network

    def learn(self, _host: int, _when_seconds: float, _stayed: int) -> None:
        pass


class Storj:
    """Storj's audit reputation (satellite/reputation): α ← λα + 1, β ← λβ + 1, λ = 0.999, α₀ = 1000, β₀ = 0."""

    def __init__(self, kept: float = 0.999, alpha: float = 1000.0) -> None:
        self._kept = kept
        self._start = (alpha, 0.0)
        self._counts: dict[int, tuple[float, float]] = {}

    def forecast(self, host: int, _when_seconds: float, _network: float) -> float:
        good, bad = self._counts.get(host, self._start)
        return good / (good + bad)

    def learn(self, host: int, _when_seconds: float, stayed: int) -> None:
        good, bad = self._counts.get(host, self._start)
        self._counts[host] = (self._kept * good + stayed, self._kept * bad + 1 - stayed)


class Boinc:
    """BOINC's adaptive replication (sched): cv valid results in a row, none after a failure: 1 − 1 / (cv + 2)."""

    def __init__(self) -> None:
        self._run: dict[int, int] = {}

    def forecast(self, host: int, _when_seconds: float, _network: float) -> float:
        return 1.0 - 1.0 / (self._run.get(host, 0) + 2.0)

    def learn(self, host: int, _when_seconds: float, stayed: int) -> None:
        self._run[host] = self._run.get(host, 0) + 1 if stayed else 0


class Beta:
    """The product's expected uptime, `expected_uptime` over one window (a test holds the two together).

    Plain floats instead of the product's records, which check themselves at each of a million steps.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[float, float]] = {}

    def forecast(self, host: int, _when_seconds: float, network: float) -> float:
        stayed, went = self.known.get(host, _NOTHING)
        strength = DEFAULT_POLICY.availability_prior_strength
        return (strength * min(max(network, 0.01), 0.99) + stayed) / (strength + stayed + went)

    def learn(self, host: int, _when_seconds: float, stayed: int) -> None:
        good, bad = self.known.get(host, _NOTHING)
        kept = DEFAULT_POLICY.availability_kept
        self.known[host] = (kept * good + stayed, kept * bad + 1 - stayed)


_NOTHING = (0.0, 0.0)


class Logistic:
    """Logistic regression that takes one AdaGrad step for each step of time, over all labels that came in.

    `anchored` starts at, and is drawn to, the Beta's own log-odds. Features: those log-odds, the host's run of windows
    kept or broken, the network's log-odds, time of day and of week.
    """

    _STEP = 0.1
    _DRAW = 1e-3

    def __init__(self, *, anchored: bool) -> None:
        self._beta = Beta()
        self._anchor = [1.0 if anchored else 0.0, *[0.0] * 8]
        self._weights = list(self._anchor)
        self._squares = [1e-3] * len(self._anchor)
        self._draw = self._DRAW if anchored else 0.0
        self._run: dict[int, int] = {}
        self._asked: dict[int, tuple[float, float, float, float]] = {}
        self._asked_at = -1.0
        self._common: list[float] = []
        self._common_part = 0.0
        self._slopes = [0.0] * 9
        self._labels = 0

    def forecast(self, host: int, when_seconds: float, network: float) -> float:
        if when_seconds != self._asked_at:
            self._step_on(when_seconds, network)
        p = self._beta.forecast(host, when_seconds, network)
        run = self._run.get(host, 0)
        odds = log(p / (1.0 - p))
        kept = log(1.0 + run) if run > 0 else 0.0
        broken = log(1.0 - run) if run < 0 else 0.0
        weights = self._weights
        z = self._common_part + weights[0] * odds + weights[1] * kept + weights[2] * broken
        answer = 1.0 / (1.0 + exp(-min(max(z, -15.0), 15.0)))
        self._asked[host] = (odds, kept, broken, answer)
        return answer

    def learn(self, host: int, when_seconds: float, stayed: int) -> None:
        self._beta.learn(host, when_seconds, stayed)
        run = self._run.get(host, 0)
        self._run[host] = max(run, 0) + 1 if stayed else min(run, 0) - 1
        odds, kept, broken, answer = self._asked.pop(host)
        error = answer - stayed
        slopes = self._slopes
        slopes[0] += error * odds
        slopes[1] += error * kept
        slopes[2] += error * broken
        slopes[3] += error
        self._labels += 1

    def _step_on(self, when_seconds: float, network: float) -> None:
        """Take the step that the labels of the last moment ask for, and work out what all hosts share now."""
        if self._labels:
            error = self._slopes[3]
            slopes = [*self._slopes[:3], *(error * x for x in self._common)]
            for index, total in enumerate(slopes):
                slope = total / self._labels + self._draw * (self._weights[index] - self._anchor[index])
                self._squares[index] += slope * slope
                self._weights[index] -= self._STEP * slope / sqrt(self._squares[index])
        day = 2.0 * pi * when_seconds / _DAY_SECONDS
        week = day / _DAYS_IN_WEEK
        self._common = [1.0, log(network / (1.0 - network)), sin(day), cos(day), sin(week), cos(week)]
        self._common_part = sum(w * x for w, x in zip(self._weights[3:], self._common))
        self._slopes = [0.0] * 9
        self._labels = 0
        self._asked_at = when_seconds


FORECASTERS: Mapping[str, Callable[[], Forecaster]] = {
    "base_rate": BaseRate,
    "storj": Storj,
    "boinc": Boinc,
    "beta": Beta,
    "logistic": lambda: Logistic(anchored=False),
    "logistic_on_beta": lambda: Logistic(anchored=True),
}
