"""The page of metrics, read as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.coordinators import Running


def test_every_family_is_described_once_and_every_sample_belongs_to_one(tmp_path: Path) -> None:
    with Running(tmp_path / "state") as running:
        status, _, page = running.call("GET", "/metrics")
    assert status == 200
    lines = page.splitlines()
    families = Counter(line.split()[2] for line in lines if line.startswith("# TYPE "))
    assert families
    assert set(families.values()) == {1}, families
    samples = {line.split("{")[0].split()[0] for line in lines if line and not line.startswith("#")}
    assert samples
    assert {name for name in samples if name not in families and name[: -len("_total")] not in families} == set()
