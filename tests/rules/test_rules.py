"""The pure rules, as tables of numbers."""

from __future__ import annotations

from typing import Optional

import pytest

from registry_core.errors import ValidationError
from registry_core.models.status import Admission, Condition, Conditions, Liveness
from registry_core.query.conditions import least_hundredths
from registry_core.rules.admission import check_admission
from registry_core.rules.health import (
    ALL_CONDITIONS,
    ALL_UNKNOWN,
    CRITICAL,
    OK,
    UNKNOWN,
    HealthRule,
    HealthThresholds,
    condition,
    load_per_cpu,
)
from registry_core.rules.liveness import interval_of_timeout, liveness


@pytest.mark.parametrize(
    ("value", "before", "after"),
    [
        (None, OK, UNKNOWN),
        (None, CRITICAL, UNKNOWN),
        (0.0, UNKNOWN, OK),
        (89.999, OK, OK),
        (90.0, OK, CRITICAL),
        (90.0, UNKNOWN, CRITICAL),
        (100.0, CRITICAL, CRITICAL),
        (81.0, CRITICAL, CRITICAL),
        (80.999, CRITICAL, OK),
        (81.0, OK, OK),
        (81.0, UNKNOWN, OK),
    ],
)
def test_a_condition_follows_from_value_threshold_and_what_held_before(
    value: Optional[float], before: int, after: int
) -> None:
    assert condition(value, 90.0, 81.0, before) == after


@pytest.mark.parametrize(
    ("load", "cpus", "expected"),
    [(8.0, 16, 0.5), (8.0, 4, 2.0), (8.0, 0, None), (None, 16, None), (0.0, 1, 0.0)],
)
def test_load_is_judged_for_each_cpu_of_the_host(load: Optional[float], cpus: int, expected: Optional[float]) -> None:
    assert load_per_cpu(load, cpus) == expected


def test_each_gauge_has_its_own_condition() -> None:
    after = HealthRule(HealthThresholds()).conditions(2.0, 10.0, None, ALL_UNKNOWN)
    assert ALL_CONDITIONS[after] == Conditions(Condition.CRITICAL, Condition.OK, Condition.UNKNOWN)
    assert ALL_CONDITIONS[ALL_UNKNOWN] == Conditions()


def test_every_arrangement_of_conditions_has_one_number() -> None:
    assert len(set(ALL_CONDITIONS)) == 27
    rule = HealthRule(HealthThresholds())
    values = {"ok": 1.0, "critical": 99.0, "unknown": None}
    for number, each in enumerate(ALL_CONDITIONS):
        assert rule.conditions(values[each.load], values[each.memory], values[each.disk], ALL_UNKNOWN) == number


@pytest.mark.parametrize("name", ["load_per_cpu", "memory_usage", "disk_usage"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "90", None])
def test_thresholds_refuse_nonsense(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        HealthThresholds(**{name: value})  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("silent_seconds", "expected"),
    [
        (0, Liveness.LIVE),
        (19.99, Liveness.LIVE),
        (20, Liveness.SUSPECT),
        (39.9, Liveness.SUSPECT),
        (40, Liveness.DOWN),
        (1e9, Liveness.DOWN),
    ],
)
def test_silence_is_judged_by_the_interval(silent_seconds: float, expected: Liveness) -> None:
    assert liveness(silent_seconds, 10.0) is expected


def test_the_interval_of_a_timeout_is_the_one_that_is_down_by_then() -> None:
    interval = interval_of_timeout(60.0)
    assert liveness(60.0, interval) is Liveness.DOWN
    assert liveness(59.9, interval) is Liveness.SUSPECT


def test_every_change_of_admission_is_allowed_or_refused() -> None:
    refused = set()
    for before in Admission:
        for after in Admission:
            try:
                check_admission(before, after)
            except ValidationError as error:
                refused.add((before.value, error.value))
    assert refused == {
        *((before.value, "pending") for before in Admission),
        ("pending", "suspended"),
        ("probation", "probation"),
        ("banned", "probation"),
        ("banned", "suspended"),
    }
    with pytest.raises(ValidationError, match="must be one of approved, banned for a node that is banned"):
        check_admission(Admission.BANNED, Admission.SUSPENDED)


@pytest.mark.parametrize(
    ("min_reputation", "least"),
    [
        (0.0, 0),
        (0.01, 1),
        (0.25, 25),
        (0.251, 26),
        (3.03, 303),
        (3.031, 304),
        (4.999, 500),
        (5.0, 500),
        (0.29, 29),
        (1.15, 115),
    ],
)
def test_a_demanded_score_is_compared_in_hundredths(min_reputation: float, least: int) -> None:
    assert least_hundredths(min_reputation) == least


def test_every_hundredth_demands_itself() -> None:
    assert [least_hundredths(hundredth / 100) for hundredth in range(501)] == list(range(501))
