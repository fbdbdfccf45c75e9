"""A report as text for a person: a table, or an explanation in sentences."""

from __future__ import annotations

from typing import Any

from agent.probe.reading import Reading
from agent.probe.report import ProbeReport

__all__ = ["explained", "table"]


def table(report: ProbeReport) -> str:
    """One line a reading; what limited it stands beside it."""
    rows = [(reading.name, _shown(reading), reading.limited_by or "") for reading in report.readings]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [f"{name:{widths[0]}}  {value:{min(widths[1], 40)}}  {why}".rstrip() for name, value, why in rows]
    lines.extend(f"error: {failure.probe}: {failure.message}" for failure in report.errors)
    return "\n".join(lines) + "\n"


def explained(report: ProbeReport) -> str:
    """One paragraph a reading: offered, seen in the container, on the host, and what made the difference."""
    lines = [_sentence(reading) for reading in report.readings]
    lines.extend(f"Not found out ({failure.probe}): {failure.message}." for failure in report.errors)
    return "\n".join(lines) + "\n"


def _shown(reading: Reading) -> str:
    return f"{_value(reading.value)} {reading.unit}".rstrip() if reading.value is not None else "not known"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(_value(item) for item in value) if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items() if item not in (None, "", [], False))
    return str(value)


def _sentence(reading: Reading) -> str:
    return f"{reading.name}: {_shown(reading)} ({reading.source})"
