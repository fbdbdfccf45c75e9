"""The evidence stored about a node: one bounded, frozen record with conversion from and to JSON, and its forgetting.

`outcomes` and `availability` update it; `scoring` and `admission_policy` evaluate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Optional

from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation.counted_tasks import DIGEST_CHARACTERS, CountedTasks

__all__ = ["EvidenceState", "forgetting_sum", "stored_history"]

_MOST = 1e12  # seconds, hours or weights beyond this are damage, not evidence


def forgetting_sum(old: Evidence, new: Evidence, kept: float) -> Evidence:
    """The sum of `old` and `new`, where `old` is multiplied by `kept` (λ) for each unit of new weight.

    λ^w · old + (1 − λ^w) / (1 − λ) · new / w, with w the weight of `new`: the average of adding w single units over all
    their orders, so that the order within `new` has no effect. For w = 1 this is λ · old + new. The total stays below
    1 / (1 − λ), and a success added to `new` never lowers successes or raises failures.
    """
    weight = new.weight
    if weight <= 0.0:
        return old
    left = kept**weight
    share = (1.0 - left) / ((1.0 - kept) * weight)
    return evidence_of(left * old.successes + share * new.successes, left * old.failures + share * new.failures)


@dataclass(frozen=True)
class EvidenceState:
    """The evidence about one node, without priors. Times are Unix seconds of the registry's wall clock."""

    first_seen_seconds: Optional[float] = None
    """When the node first registered; None before the first outcome or hour."""

    settled: Evidence = Evidence()
    """Correctness before `open_at_seconds`, with forgetting."""

    open_batch: Evidence = Evidence()
    """Correctness at `open_at_seconds`, as plain sums; outcomes of the same time are added here."""

    open_at_seconds: float = 0.0

    verified_tasks: float = 0.0
    """Successful first-hand outcomes, each of at most weight 1, never forgotten; they can end probation."""

    performance: Evidence = Evidence()
    """Measured against claimed performance, with forgetting."""

    availability: Evidence = Evidence()
    """Units (6 h) live and not live, with forgetting."""

    observed_hours: float = 0.0
    """Hours in which availability was observed, never forgotten."""

    uptime: Evidence = Evidence()
    """Windows in which the node stayed live to the end, and in which it did not, with forgetting."""

    window_hours: float = 0.0
    """Observed hours of the current window; 0: no window."""

    window_intact: bool = False
    """Whether the node was always live in the current window."""

    away_hours: float = 0.0
    """Approximate hours in the last month for which the node had left or was removed."""

    excused_hours: float = 0.0
    """The part of `away_hours` that has not counted as absence so far."""

    removed_at_hours: Optional[float] = None
    """When the node was removed, in hours in which the registry judged liveness; None if it did not judge it."""

    ratings: Evidence = Evidence()
    """The evidence from `raters`, as of the last rating batch."""

    raters: FrozenMap[str, tuple[float, float]] = field(default_factory=FrozenMap)
    """Node id of the rater → (value from −1 to 1, time)."""

    suspensions: int = 0
    suspended_at_seconds: float = 0.0

    failed_since_standing: bool = False
    """Whether an outcome failed since the last change of standing, so that no failure suspends a node twice."""

    standing_by_operator: bool = False
    """Whether an operator set this node's standing, so that the rules do not change it."""

    tasks: CountedTasks = CountedTasks()

    def to_plain(self) -> dict[str, Any]:
        """The fields that differ from an empty record, as JSON values."""
        plain: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value == default:
                continue
            if isinstance(value, Evidence):
                plain[name] = [value.successes, value.failures]
            elif isinstance(value, CountedTasks):
                plain[name] = value.to_plain()
            elif name == "raters":
                plain[name] = {rater: list(rating) for rater, rating in value.items()}
            else:
                plain[name] = value
        return plain

    @classmethod
    def from_plain(cls, plain: object, called: str = "evidence") -> EvidenceState:
        """The record that `to_plain` converted. Raises ValidationError, with `called` as the parent of the field."""
        history = stored_history(plain, called)
        for rater in history.get("raters", ()):
            limits.identifier(f"{called}.raters", rater)
        return cls._of_history(history)

    @classmethod
    def trusted(cls, plain: Mapping[str, Any]) -> EvidenceState:
        """As `from_plain` but faster, for the history of a stored record. Raises only DamagedStoreError."""
        try:
            return cls._of_history(stored_history(plain))
        except ValidationError as error:
            raise DamagedStoreError("a stored record", f"its history is damaged: {error}") from None

    @classmethod
    def _of_history(cls, history: Mapping[str, Any]) -> EvidenceState:
        given = dict(history)
        for name in _EVIDENCE:
            if name in given:
                given[name] = evidence_of(*given[name])
        if "tasks" in given:
            given["tasks"] = CountedTasks(given["tasks"])
        return cls(**given)


_DEFAULTS: dict[str, object] = {item.name: getattr(EvidenceState(), item.name) for item in fields(EvidenceState)}
_EVIDENCE = tuple(name for name, default in _DEFAULTS.items() if isinstance(default, Evidence))


def stored_history(plain: object, called: str = "history") -> FrozenMap[str, Any]:
    """The history of a record, as `to_plain` returns it, frozen. Raises ValidationError for anything else."""
    if not isinstance(plain, Mapping):
        raise ValidationError(called, plain, "must be a map of fields")
    history: dict[str, Any] = {}
    for name, value in plain.items():
        if name not in _DEFAULTS:
            raise ValidationError(f"{called}.{name}", value, "is not a known field")
        read, rule = _STORED[type(_DEFAULTS[name])]
        try:
            history[name] = read(value)
        except (TypeError, ValueError):
            raise ValidationError(f"{called}.{name}", value, f"must be {rule}") from None
    return FrozenMap(history)


def _stored_number(value: Any, least: float = -_MOST) -> float:
    if type(value) not in (float, int) or not least <= value <= _MOST:  # NaN fails too
        raise ValueError
    return float(value)


def _stored_pair(value: Any, least: float = 0.0) -> tuple[float, float]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    first, second = value
    return _stored_number(first, least), _stored_number(second, least)


def _stored_tasks(value: Any) -> tuple[tuple[int, str], ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    days = []
    for day, digests in value:
        is_day = type(day) is int and -_MOST <= day <= _MOST
        if not is_day or not isinstance(digests, str) or len(digests) % DIGEST_CHARACTERS:
            raise ValueError
        days.append((day, digests))
    return tuple(days)


def _stored_raters(value: Any) -> FrozenMap[str, tuple[float, float]]:
    if not isinstance(value, Mapping) or not all(isinstance(rater, str) for rater in value):
        raise TypeError
    return FrozenMap({rater: _stored_pair(rating, -1.0) for rater, rating in value.items()})


def _stored_count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 1_000_000:
        raise ValueError
    return value


def _stored_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


_STORED: Mapping[type, tuple[Callable[[Any], Any], str]] = {
    Evidence: (_stored_pair, "two numbers of at least 0"),
    CountedTasks: (_stored_tasks, f"a list of [day, digests of {DIGEST_CHARACTERS} characters each]"),
    FrozenMap: (_stored_raters, "a map from node ids to two numbers of at least -1"),
    bool: (_stored_boolean, "true or false"),
    int: (_stored_count, "a whole number from 0 to 1000000"),
    float: (_stored_number, f"a number from {-_MOST:g} to {_MOST:g}"),
    type(None): (_stored_number, f"a number from {-_MOST:g} to {_MOST:g}"),
}
"""By the type of the field's default: the function that reads a value, and the rule it must meet."""
