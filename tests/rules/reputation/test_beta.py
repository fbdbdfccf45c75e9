"""The Beta quantile against values of 30 digits (mpmath), and its laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.rules.reputation.beta import beta_quantile, log_beta_cdf, lower_bound

#: 5 % quantiles by the positive series of I_x and bisection in mpmath, with 40 digits
PRECISE = [
    (1, 1, 0.05),
    (6, 1, 0.60696223100291723),
    (6, 2, 0.47929702640869287),
    (1.5, 3.25, 0.049239380996267488),
    (100, 20.5, 0.77082173851903537),
    (23.75, 0.25, 0.94955446009494227),
    (0.25, 3.75, 1.2457294925666363e-6),
    (0.25, 0.25, 7.3853258546324354e-5),
    (990, 13.25, 0.98036821108684232),
    (100000.0, 33.25, 0.99956748019105458),
    (7.75, 0.25, 0.84886700618808946),
    (1.0001, 900, 5.7010839897773768e-5),
    (1001, 1, 0.99701173424687281),
    (2, 1001, 0.00035476637178073611),
    (501, 501, 0.47402960899883418),
]


@pytest.mark.parametrize(("alpha", "beta", "quantile"), PRECISE)
def test_the_quantile_agrees_with_high_precision_values(alpha: float, beta: float, quantile: float) -> None:
    assert beta_quantile(0.05, alpha, beta) == pytest.approx(quantile, rel=1e-9)


@pytest.mark.parametrize(("successes", "score"), [(0, 0.25), (5, 3.03), (10, 3.81), (20, 4.34), (100, 4.85)])
def test_the_bound_times_five_is_the_documented_score_of_clean_tasks(successes: int, score: float) -> None:
    assert round(5 * lower_bound(successes, 0), 2) == score


_weights = st.floats(min_value=0.0, max_value=1000.0)


@settings(max_examples=150)
@given(_weights, _weights, st.floats(min_value=0.001, max_value=0.999))
def test_the_quantile_is_the_inverse_of_the_distribution(successes: float, failures: float, p: float) -> None:
    x = beta_quantile(p, 1 + successes, 1 + failures)
    assert 0 < x < 1
    assert math.exp(log_beta_cdf(x, 1 + successes, 1 + failures)) == pytest.approx(p, rel=1e-6)


@settings(max_examples=150)
@given(_weights, _weights, st.floats(min_value=0.01, max_value=100))
def test_a_success_raises_and_a_failure_lowers_the_bound(successes: float, failures: float, weight: float) -> None:
    bound = lower_bound(successes, failures)
    assert lower_bound(successes + weight, failures) > bound
    assert lower_bound(successes, failures + weight) < bound


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.05, 0.0, 1.0), (0.05, 1.0, math.nan)])
def test_what_is_no_distribution_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        beta_quantile(*bad)
