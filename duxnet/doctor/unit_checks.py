"""Checks of the unit as systemd sees it: active, not restarting, its watchdog fed, its secrets protected."""

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
# systemd.exec(5), "Process Exit Codes": failures of a sandboxed unit before our first line runs.
_EXIT_WORDS = {
    "78": "bad configuration: `duxnet config check /etc/duxnet/config.toml`",
    "203": "the command cannot be started (203/EXEC): `sudo duxnet service install` installs the service again",
    "216": "a group of a drop-in does not exist (216/GROUP): `sudo duxnet service install` writes it again",
    "243": "a credential cannot be read (243/CREDENTIALS): see LoadCredential= in `systemctl cat` of the unit",
}


def check_state(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the unit is active, is enabled and does not restart."""
    logs = f"journalctl -u {unit.service} -n 50"
    if found.get("ActiveState") == "active":
        yield Finding("service", OK, f"{unit.service} is active: {found.get('StatusText') or 'no status text'}")
    else:
        why = _EXIT_WORDS.get(found.get("ExecMainStatus", ""), f"`{logs}` shows why")
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
        yield Finding("restarts", NOTE, summary, f"`{logs} -p warning` shows why", {"restarts": restarts})


def check_watchdog(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Check that systemd watches the unit, and when the unit last reported progress."""
    if found.get("ActiveState") != "active":
        return
    limit_seconds = _seconds(found.get("WatchdogUSec", ""))
    if limit_seconds is None:
        yield Finding(
            "watchdog",
            PROBLEM,
            f"{unit.service} has no watchdog: if it hangs, systemd does not restart it",
            f"a drop-in removes WatchdogSec=: see `systemctl cat {unit.service}`",
        )
        return
    reported = int(found.get("WatchdogTimestampMonotonic") or 0) / 1e6
    age_seconds = max(0.0, time.monotonic() - reported)
    if age_seconds > limit_seconds:
        yield Finding(
            "watchdog",
            PROBLEM,
            f"no progress for {age_seconds:.0f} s, although the limit is {limit_seconds:g} s",
            f"systemd should have restarted it: sudo systemctl restart {unit.service}",
        )
        return
    yield Finding(
        "watchdog",
        OK,
        f"progress {age_seconds:.0f} s ago; systemd restarts it after {limit_seconds:g} s without progress",
    )


def check_text(unit: Unit, found: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the unit file is the one of the installed package."""
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
    """Check that other users cannot read the secrets of the unit."""
    for folder in CREDENTIAL_FOLDERS:
        for path in sorted(folder.glob(f"{unit.directory}.*")) if folder.is_dir() else ():
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                yield Finding(
                    "credentials",
                    PROBLEM,
                    f"other users can read {path}",
                    f"sudo chmod 600 {path}; then replace the secret",
                )
            else:
                yield Finding("credentials", OK, f"{path} is passed to the service; other users cannot read it")


def _seconds(text: str) -> Optional[float]:
    """Seconds from a duration of systemctl, such as `1min 30s`; None for 0 or infinity."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
    total = 0.0
    for word in text.split():
        figure = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = word[len(figure) :]
        if unit not in units or not figure.replace(".", "", 1).isdigit():
            return None
        total += float(figure) * units[unit]
    return total or None
