"""The unit as systemd sees it: installed, active, not restarting, its watchdog fed, its secrets closed."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding
from duxnet.service.placement import current_placement
from duxnet.service.units import Unit, unit_text

__all__ = ["PROPERTIES", "check_credentials", "check_state", "check_text", "check_watchdog"]

PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "NRestarts", "Result", "ExecMainStatus",
    "WatchdogUSec", "WatchdogTimestampMonotonic", "FragmentPath", "Environment", "IPAddressDeny", "IPAddressAllow",
)  # fmt: skip
CREDENTIAL_FOLDERS = (Path("/etc/credstore"), Path("/run/credstore"))
# systemd.exec(5), "Process Exit Codes": what a hardened unit dies of before our first line runs.
_EXIT_WORDS = {
    "78": "bad configuration: `duxnet config check /etc/duxnet/config.toml`",
    "203": "the command cannot be started (203/EXEC): install the service again: `sudo duxnet service install`",
    "216": "a group of a drop-in does not exist (216/GROUP): `sudo duxnet service install` writes it again",
    "243": "a credential cannot be read (243/CREDENTIALS): see LoadCredential= in `systemctl cat` of the unit",
}


def check_state(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Whether it runs and goes on running, from the unit's properties."""
    logs = f"journalctl -u {unit.service} -n 50"
    if found.get("ActiveState") == "active":
        yield Finding("service", OK, f"{unit.service} is active: {found.get('StatusText') or 'it says nothing more'}")
    else:
        why = _EXIT_WORDS.get(found.get("ExecMainStatus", ""), f"`{logs}` says why")
        yield Finding(
            "service",
            PROBLEM,
            f"{unit.service} is {found.get('ActiveState')} ({found.get('SubState')}), last result: "
            f"{found.get('Result')}, exit status {found.get('ExecMainStatus')}",
            f"{why}\nthen `sudo systemctl restart {unit.service}`",
        )
    if found.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        yield Finding(
            "service at boot",
            PROBLEM,
            f"{unit.service} is not started at boot ({found.get('UnitFileState') or 'not enabled'})",
            f"sudo systemctl enable {unit.service}",
        )
    restarts = int(found.get("NRestarts") or 0)
    if restarts:
        summary = f"{unit.service} was restarted {restarts} time{'s' if restarts > 1 else ''} since it was started"
        yield Finding("restarts", NOTE, summary, f"`{logs} -p warning` says why", {"restarts": restarts})


def check_watchdog(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Whether systemd watches it, and when progress was last reported."""
    if found.get("ActiveState") != "active":
        return
    limit_seconds = _seconds(found.get("WatchdogUSec", ""))
    if limit_seconds is None:
        yield Finding(
            "watchdog",
            PROBLEM,
            f"nobody watches {unit.service}: a hung one would stay so",
            f"a drop-in takes WatchdogSec= away: see `systemctl cat {unit.service}`",
        )
        return
    reported = int(found.get("WatchdogTimestampMonotonic") or 0) / 1e6
    age_seconds = max(0.0, time.monotonic() - reported)
    if age_seconds > limit_seconds:
        yield Finding(
            "watchdog",
            PROBLEM,
            f"no progress for {age_seconds:.0f} s, although {limit_seconds:g} s are the limit",
            f"systemd should have restarted it: sudo systemctl restart {unit.service}",
        )
        return
    yield Finding(
        "watchdog", OK, f"progress {age_seconds:.0f} s ago; without any for {limit_seconds:g} s it is restarted"
    )


def check_text(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the unit file is the one of the installed package."""
    path = Path(found.get("FragmentPath") or "/nowhere")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return
    if text != unit_text(unit, current_placement().command):
        yield Finding(
            "unit file",
            NOTE,
            f"{path} is not the one that this version, at {current_placement().command}, installs",
            f"after an upgrade or a move: sudo {unit.install_command}",
        )


def check_credentials(unit: Unit) -> Iterator[Finding]:
    """Secrets that others could read on their way into the unit."""
    for folder in CREDENTIAL_FOLDERS:
        for path in sorted(folder.glob(f"{unit.directory}.*")) if folder.is_dir() else ():
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                yield Finding(
                    "credentials", PROBLEM, f"{path} can be read by others", f"sudo chmod 600 {path}; then renew it"
                )
            else:
                yield Finding("credentials", OK, f"{path} is handed to the service and closed to others")


def _seconds(text: str) -> Optional[float]:
    """`1min 30s` in seconds, as systemctl shows times; None for 0 or infinity."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
    total = 0.0
    for word in text.split():
        figure = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = word[len(figure) :]
        if unit not in units or not figure.replace(".", "", 1).isdigit():
            return None
        total += float(figure) * units[unit]
    return total or None
