"""Quantiles of the Beta distribution in plain Python, exact to about 1e-12, in at most tens of microseconds."""

from __future__ import annotations

from functools import lru_cache
from math import exp, expm1, inf, lgamma, log, sqrt

__all__ = ["beta_quantile", "log_beta_cdf", "lower_bound"]

BOUND = 0.05
"""The probability that the true rate is below the bound. A lower value requires more evidence for a good score."""

_SMALLEST = 1e-300
_TOLERANCE = 1e-15
_MOST_STEPS = 100


def lower_bound(successes: float, failures: float, *, probability: float = BOUND) -> float:
    """The `probability` quantile of Beta(1 + successes, 1 + failures): the rate is most likely at least this.

    0 and 0 give 0.05; five successes without a failure give 0.607. Both counts are weights ≥ 0 without the prior.
    """
    return beta_quantile(probability, 1.0 + successes, 1.0 + failures)


@lru_cache(maxsize=8192)
def beta_quantile(probability: float, alpha: float, beta: float) -> float:
    """The x with P(X ≤ x) = `probability` for X ~ Beta(`alpha`, `beta`), all positive, 0 < probability < 1.

    Newton's method on ln P as a function of ln x, which is concave for beta ≥ 1 and convex below, so that it cannot
    diverge; closed forms if one parameter is 1.
    """
    if not (0.0 < probability < 1.0 and 0.0 < alpha < inf and 0.0 < beta < inf):
        raise ValueError(f"no quantile {probability} of Beta({alpha}, {beta})")
    if beta == 1.0:
        return float(probability ** (1.0 / alpha))
    if alpha == 1.0:
        return -expm1(log(1.0 - probability) / beta)
    wanted = log(probability)
    u = log(_first_guess(probability, alpha, beta))
    scale = _log_beta_function(alpha, beta)
    for _ in range(_MOST_STEPS):
        reached = log_beta_cdf(exp(u), alpha, beta)
        slope = exp(alpha * u + (beta - 1.0) * log(-expm1(u)) - scale - reached)
        step = (wanted - reached) / slope
        following = u + step if u + step < 0.0 else u / 2.0
        if abs(following - u) <= 1e-14 * max(1.0, abs(u)):
            return exp(following)
        u = following
    return exp(u)


def log_beta_cdf(x: float, alpha: float, beta: float) -> float:
    """ln P(X ≤ x) for X ~ Beta(alpha, beta) and 0 < x < 1."""
    front = alpha * log(x) + beta * log(max(1.0 - x, _SMALLEST)) - _log_beta_function(alpha, beta)
    if x < (alpha + 1.0) / (alpha + beta + 2.0):
        return front + log(_continued_fraction(x, alpha, beta) / alpha)
    above = exp(front) * _continued_fraction(1.0 - x, beta, alpha) / beta
    return log(max(1.0 - above, _SMALLEST))


def _log_beta_function(alpha: float, beta: float) -> float:
    return lgamma(alpha) + lgamma(beta) - lgamma(alpha + beta)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b) (DLMF 8.17.22) by Lentz's method; converges fast for x below the mean."""
    c = 1.0
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0) or _SMALLEST)
    value = d
    m = 0.0
    while True:
        m += 1.0
        twice = a + 2.0 * m
        even = m * (b - m) * x / ((twice - 1.0) * twice)
        d = 1.0 / (1.0 + even * d or _SMALLEST)
        c = 1.0 + even / c or _SMALLEST
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / (twice * (twice + 1.0))
        d = 1.0 / (1.0 + odd * d or _SMALLEST)
        c = 1.0 + odd / c or _SMALLEST
        change = d * c
        value *= change
        if abs(change - 1.0) < _TOLERANCE or m > 10_000.0:
            return value


def _first_guess(probability: float, alpha: float, beta: float) -> float:
    """A start value for Newton's method: Abramowitz and Stegun 26.5.22, or the power law of the left tail."""
    if alpha > 1.0 and beta > 1.0:
        tail = min(probability, 1.0 - probability)
        t = sqrt(-2.0 * log(tail))
        z = (2.30753 + t * 0.27061) / (1.0 + t * (0.99229 + t * 0.04481)) - t
        z = z if probability > 0.5 else -z
        k = (z * z - 3.0) / 6.0
        h = 2.0 / (1.0 / (2.0 * alpha - 1.0) + 1.0 / (2.0 * beta - 1.0))
        w = z * sqrt(h + k) / h if h + k > 0.0 else 0.0
        w -= (1.0 / (2.0 * beta - 1.0) - 1.0 / (2.0 * alpha - 1.0)) * (k + 5.0 / 6.0 - 2.0 / (3.0 * h))
        guess = alpha / (alpha + beta * exp(2.0 * w))
    else:
        guess = exp((log(probability * alpha) + _log_beta_function(alpha, beta)) / alpha)
    return min(max(guess, _SMALLEST), 1.0 - 1e-9)
