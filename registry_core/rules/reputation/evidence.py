"""All that is kept about a node in order to judge it: one frozen record, bounded, as plain JSON and back.

Here: the record and its arithmetic of forgetting. Not here: which outcome goes where (`outcomes`,
`availability`), and what follows from it (`scoring`, `standing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Optional, TypedDict

import msgspec

from registry_core.errors import DamagedStoreError, ValidationError, shown
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.reputation import Evidence
from registry_core.models.trusted import evidence_of
from registry_core.rules.reputation.counted_tasks import DIGEST_CHARACTERS, CountedTasks

__all__ = ["EvidenceState", "forgetting_sum", "stored_history"]

_MOST = 1e12  # seconds, hours or weights beyond this are damage, not evidence


def forgetting_sum(old: Evidence, new: Evidence, kept: float) -> Evidence:
    """`old` after `new` came in, forgetting by `kept` (λ) for each unit of new weight.

    λ^w · old + (1 − λ^w) / (1 − λ) · new / w, with w the weight of `new`: what w single units give on average over
    every order, so that order within `new` cannot matter. For w = 1 this is λ · old + new. The total stays below
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
    """What is known of one node, without any prior. Times are Unix seconds of the registry's wall clock."""

    first_seen_seconds: Optional[float] = None
    """When the registry first knew of it. None: not yet."""

    settled: Evidence = Evidence()
    """Correctness before `open_at_seconds`, with forgetting."""

    open_batch: Evidence = Evidence()
    """Correctness at `open_at_seconds`, as plain sums: what comes at the same time joins here."""

    open_at_seconds: float = 0.0

    verified_tasks: float = 0.0
    """Successful first-hand outcomes, none counted more than 1, never forgotten: what probation asks for."""

    performance: Evidence = Evidence()
    """Measured over claimed performance, with forgetting."""

    availability: Evidence = Evidence()
    """Units (6 h) live and not live, with forgetting."""

    observed_hours: float = 0.0
    """Hours that availability was observed, never forgotten."""

    uptime: Evidence = Evidence()
    """Windows begun live that stayed live to their end, and that did not, with forgetting."""

    window_hours: float = 0.0
    """Hours done of the window under way; 0: none."""

    window_intact: bool = False
    """Live throughout the window under way."""

    ratings: Evidence = Evidence()
    """What the last rating batch made of `raters`."""

    raters: FrozenMap[str, tuple[float, float]] = field(default_factory=FrozenMap)
    """Rater's node id → (value from −1 to 1, when)."""

    suspensions: int = 0
    suspended_at_seconds: float = 0.0

    failed_since_standing: bool = False
    """Whether an outcome failed since standing last changed: nobody is suspended twice for one fault."""

    standing_by_operator: bool = False
    """An operator decided on this node's standing: the rules leave it alone."""

    tasks: CountedTasks = CountedTasks()

    def to_plain(self) -> dict[str, Any]:
        """A JSON value of what differs from an empty record."""
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
                plain[name] = {rater: list(said) for rater, said in value.items()}
            else:
                plain[name] = value
        return plain

    @classmethod
    def from_plain(cls, plain: object, called: str = "evidence") -> EvidenceState:
        """What `to_plain` gave, exactly. Raises ValidationError naming the field as one of `called`."""
        if not isinstance(plain, Mapping):
            raise ValidationError(called, plain, "must be a map of fields")
        given: dict[str, Any] = {}
        for name, value in plain.items():
            if name not in _DEFAULTS:
                raise ValidationError(f"{called}.{name}", value, "is not a field of it")
            given[name] = _read(f"{called}.{name}", value, _DEFAULTS[name])
        return cls(**given)

    @classmethod
    def trusted(cls, plain: Mapping[str, Any]) -> EvidenceState:
        """As `from_plain`, of the history of a stored record, at less cost. Raises DamagedStoreError, and nothing else."""
        try:
            given = dict(stored_history(plain))
        except ValueError as error:
            raise DamagedStoreError("a stored record", f"its history is damaged: {error}") from None
        for name in _EVIDENCE:
            if name in given:
                given[name] = evidence_of(*given[name])
        if "tasks" in given:
            given["tasks"] = CountedTasks(given["tasks"])
        return cls(**given)


_DEFAULTS: dict[str, object] = {item.name: getattr(EvidenceState(), item.name) for item in fields(EvidenceState)}
_EVIDENCE = tuple(name for name, default in _DEFAULTS.items() if isinstance(default, Evidence))

_Number = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
_Weight = Annotated[float, msgspec.Meta(ge=0.0, le=_MOST)]
_Share = Annotated[float, msgspec.Meta(ge=-1.0, le=_MOST)]
_Rater = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Day = Annotated[int, msgspec.Meta(ge=-1_000_000, le=100_000_000)]
_STORED: dict[type, Any] = {
    Evidence: tuple[_Weight, _Weight],
    CountedTasks: tuple[tuple[_Day, str], ...],
    FrozenMap: dict[_Rater, tuple[_Share, _Share]],
    bool: bool,
    int: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)],
    float: _Number,
    type(None): _Number,
}
_Stored = TypedDict(  # type: ignore[misc]  # made of the fields above, so that none can be forgotten
    "_Stored", {name: _STORED[type(default)] for name, default in _DEFAULTS.items()}, total=False
)


def stored_history(plain: object) -> FrozenMap[str, Any]:
    """The history of a record as `to_plain` gave it, frozen. Raises ValueError for anything else, whatever it is."""
    if isinstance(plain, Mapping) and not plain.keys() <= _DEFAULTS.keys():
        raise ValueError(f"{shown(next(iter(plain.keys() - _DEFAULTS.keys())))} is not a field of it")
    try:
        given: dict[str, Any] = msgspec.convert(plain, _Stored)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if any(len(digests) % DIGEST_CHARACTERS for _day, digests in given.get("tasks", ())):
        raise ValueError(f"tasks must hold digests of {DIGEST_CHARACTERS} characters")
    if "raters" in given:
        given["raters"] = FrozenMap(given["raters"])
    return FrozenMap(given)


def _read(field: str, value: object, default: object) -> object:
    """`value` in the type that the field's default has."""
    if isinstance(default, Evidence):
        return Evidence(*_pair(field, value, 0.0))
    if isinstance(default, CountedTasks):
        return CountedTasks.from_plain(value)
    if isinstance(default, bool):
        return limits.boolean(field, value)
    if isinstance(default, int):
        return limits.integer(field, value, 0, 1_000_000)
    if isinstance(default, FrozenMap):
        if not isinstance(value, Mapping):
            raise ValidationError(field, value, "must be a map of raters")
        return FrozenMap({limits.identifier(field, rater): _pair(field, said, -1.0) for rater, said in value.items()})
    return limits.number(field, value, -_MOST, _MOST)


def _pair(field: str, value: object, least: float) -> tuple[float, float]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValidationError(field, value, "must be two numbers")
    return limits.number(field, value[0], least, _MOST), limits.number(field, value[1], least, _MOST)
