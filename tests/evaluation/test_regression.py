"""The figures that the documentation claims, on the real data, where DUXNET_EVALUATION_DATA names its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluation.availability import evaluate_availability
from evaluation.report import find_data
from evaluation.trust import leak_free_auc

_FOLDER = os.environ.get("DUXNET_EVALUATION_DATA")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _FOLDER, reason="needs DUXNET_EVALUATION_DATA, the folder of the public data sets"),
]


@pytest.mark.parametrize(("seeds", "least"), [("1", 0.868), ("earliest:5", 0.88)])
def test_leak_free_auc_does_not_fall_behind(seeds: str, least: float) -> None:
    network, labels, _ = find_data(Path(str(_FOLDER)))
    assert leak_free_auc(network, labels, seeds) >= least


@pytest.mark.timeout(300)
def test_expected_uptime_stays_as_sharp_and_as_calibrated() -> None:
    report = evaluate_availability(find_data(Path(str(_FOLDER)))[2])
    assert report["brier"]["beta"] <= 0.0466
    assert report["ece"]["beta"] <= 0.012
