"""Measures against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from evaluation.measures import auc, bootstrap_auc, brier, calibration, log_loss, quantiles


def test_auc_counts_pairs_and_ties_half() -> None:
    assert auc([3.0, 2.0, 1.0], [True, False, False]) == 1.0
    assert auc([1.0, 2.0, 3.0], [True, False, False]) == 0.0
    assert auc([1.0, 1.0, 0.0, 1.0], [True, True, False, False]) == pytest.approx(0.75)


def test_resampled_aucs_lie_around_the_auc_and_are_the_same_each_time() -> None:
    suspicion = [float(index % 7) for index in range(60)]
    positive = [index % 3 == 0 for index in range(60)]
    drawn = bootstrap_auc({"one": suspicion}, positive, 300)["one"]
    low, high = quantiles(drawn, (0.025, 0.975))
    assert low < auc(suspicion, positive) < high
    assert drawn == bootstrap_auc({"one": suspicion}, positive, 300)["one"]


def test_proper_scores_are_those_of_the_formulas() -> None:
    assert brier([0.8, 0.4], [1, 0]) == pytest.approx((0.04 + 0.16) / 2)
    assert log_loss([0.8, 0.4], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert log_loss([0.0], [1]) < 14.0


def test_a_calibrated_forecast_has_no_calibration_error() -> None:
    forecasts = [0.25] * 40 + [0.75] * 40
    outcomes = [1, 0, 0, 0] * 10 + [1, 1, 1, 0] * 10
    error, table = calibration(forecasts, outcomes, bins=2)
    assert error == pytest.approx(0.0)
    assert [cases for _, _, cases in table] == [40, 40]
    assert calibration([0.9] * 80, outcomes, bins=2)[0] == pytest.approx(0.4)
