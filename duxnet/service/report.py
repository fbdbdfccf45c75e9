"""The output of `duxnet service status`: the unit as systemd sees it, in a dozen lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from duxnet.process.errors import CommandError
from duxnet.service import systemctl
from duxnet.service.units import Unit

__all__ = ["describe", "is_active"]

_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "ActiveEnterTimestamp", "MainPID",
    "NRestarts", "Result", "ExecMainStatus", "MemoryCurrent", "WatchdogTimestamp", "FragmentPath", "DropInPaths",
)  # fmt: skip
_NO_FIGURE = ("", "[not set]", str(2**64 - 1))


def is_active(unit: Unit) -> bool:
    """Whether the service has started and is running."""
    return systemctl.properties(unit.service, ["ActiveState"]).get("ActiveState") == "active"


def describe(unit: Unit) -> Iterator[str]:
    """Lines for a person. Raises CommandError if systemd does not run on this machine."""
    if not systemctl.is_running():
        raise CommandError("systemd does not run on this machine", "`duxnet agent` runs without it too.")
    found = systemctl.properties(unit.service, _PROPERTIES)
    if found.get("LoadState") == "not-found":
        yield f"{unit.service} is not installed; `sudo {unit.install_command}` installs it"
        return
    yield f"{unit.service}: {found['ActiveState']} ({found['SubState']}), {found.get('UnitFileState') or 'static'}"
    yield from _rows(found)
    warnings = systemctl.journal_tail(unit.service, lines=5, priority="warning")
    if warnings:
        yield "newest warnings and errors:"
        yield from (f"  {line}" for line in warnings)


def _rows(found: Mapping[str, str]) -> Iterator[str]:
    rows = {
        "status": found.get("StatusText", ""),
        "active since": found.get("ActiveEnterTimestamp", ""),
        "process": found["MainPID"] if found.get("MainPID", "0") != "0" else "",
        "restarts": found.get("NRestarts", ""),
        "last result": _result(found),
        "memory": _megabytes(found.get("MemoryCurrent", "")),
        "last progress": found.get("WatchdogTimestamp", ""),
        "unit": found.get("FragmentPath", ""),
        "drop-ins": found.get("DropInPaths", ""),
    }
    for name, value in rows.items():
        if value:
            yield f"  {name:<14} {value}"


def _result(found: Mapping[str, str]) -> str:
    if found.get("Result") in ("", "success", None):
        return ""
    return f"{found['Result']} (exit status {found.get('ExecMainStatus', '?')})"


def _megabytes(text: str) -> str:
    return "" if text in _NO_FIGURE else f"{int(text) / 1e6:.0f} MB"
