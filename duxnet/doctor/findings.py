"""The findings of the doctor, as JSON and as text. Not here: the checks that make them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MARK_WIDTH", "NOTE", "OK", "PROBLEM", "Finding", "all_is_well", "as_text", "to_plain"]

SCHEMA = "duxnet.doctor/1.0"
OK = "ok"
NOTE = "note"  # worth knowing; nothing is broken
PROBLEM = "problem"

_MARKS = {OK: "ok     ", NOTE: "note   ", PROBLEM: "PROBLEM"}
MARK_WIDTH = len(_MARKS[OK])


@dataclass(frozen=True)
class Finding:
    """`check` names the check, `summary` says what was found, `remedy` what to do (never empty for a problem)."""

    check: str
    state: str
    summary: str
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.state in _MARKS, self.state
        assert self.remedy or self.state != PROBLEM, f"a problem without a remedy: {self.summary}"


def all_is_well(findings: Iterable[Finding]) -> bool:
    """Whether no finding is a problem."""
    return all(finding.state != PROBLEM for finding in findings)


def to_plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON of `duxnet doctor --format json`."""
    return {
        "schema": SCHEMA,
        "ok": all_is_well(findings),
        "findings": [{**asdict(finding), "remedy": finding.remedy or None} for finding in findings],
    }


def as_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines for a person: each finding with its remedy below it, and the number of problems at the end."""
    for finding in findings:
        yield f"{_MARKS[finding.state]} {finding.check}: {finding.summary}"
        yield from (f"        → {line}" for line in finding.remedy.splitlines())
    problems = sum(finding.state == PROBLEM for finding in findings)
    yield "no problems" if problems == 0 else f"{problems} problem{'s' if problems > 1 else ''}"
