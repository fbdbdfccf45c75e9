"""The start of the probe, measured. Slow: a ratio of short times needs many runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.probe import BASELINE, MOST_TIMES_PASS, installed_copy, milliseconds

pytestmark = pytest.mark.xdist_group("timing")  # what it measures bears no other measurement beside it


@pytest.mark.slow
def test_a_probe_takes_no_longer_than_its_share_of_an_empty_python(tmp_path: Path) -> None:
    installed_copy(tmp_path)
    medians = milliseconds(41, [BASELINE, "duxnet probe --format json"], tmp_path)
    assert medians["duxnet probe --format json"] <= MOST_TIMES_PASS * medians[BASELINE], medians
