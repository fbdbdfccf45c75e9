"""Runs a command in the sandbox of an installed unit: in a transient unit with the same directives."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from duxnet.service.systemctl import systemctl
from duxnet.service.units import Unit

__all__ = ["SandboxError", "directives", "probe_as_root", "probe_in_sandbox", "readable_folder"]

TIMEOUT_SECONDS = 120

# Directives that start the service and do not restrict it, and directives that would take its folders from it (a state
# directory belongs to one dynamic user at a time). The unit's own memory, task and CPU limits are left out because the
# probe ignores them: it recognizes them by the unit's name, which a transient unit does not have.
_NOT_OF_THE_SANDBOX = (
    "Exec", "Type", "Restart", "Timeout", "Watchdog", "NotifyAccess", "StateDirectory", "RuntimeDirectory",
    "CacheDirectory", "LogsDirectory", "LoadCredential", "SetCredential", "SyslogIdentifier", "Standard", "Memory",
    "TasksMax", "CPUQuota", "RemainAfterExit", "PIDFile", "SuccessExitStatus", "OOMPolicy",
)  # fmt: skip


class SandboxError(Exception):
    """The probe could not be run in the sandbox; the text says why."""


def directives(unit_text: str) -> Iterator[str]:
    """The `Key=value` lines of [Service] that make the sandbox, in the order of `systemctl cat`."""
    section = ""
    for line in unit_text.replace("\\\n", " ").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == "[Service]" and "=" in text and not text.startswith(("#", ";")):
            key, _, value = text.partition("=")
            if not key.strip().startswith(_NOT_OF_THE_SANDBOX):
                yield f"{key.strip()}={value.strip()}"


def readable_folder(path: Path) -> Path:
    """`path`, or its nearest parent that every user may read.

    Only the service's own dynamic user may enter its state directory, and the transient unit has another one.
    """
    folder = Path(os.path.realpath(path))
    while folder != folder.parent and not (folder.is_dir() and folder.stat().st_mode & 0o005 == 0o005):
        folder = folder.parent
    return folder


def probe_in_sandbox(unit: Unit, command: Path, work_dir: Path) -> dict[str, Any]:
    """What `duxnet probe` prints in that unit. Needs root and a running systemd. Raises SandboxError, CommandError."""
    properties = [f"--property={line}" for line in directives(systemctl("cat", unit.service))]
    run = ["systemd-run", "--pipe", "--wait", "--collect", "--quiet", "--service-type=exec", *properties]
    return _probed([*run, "--", str(command), "probe", "--format", "json", "--work-dir", str(work_dir)])


def probe_as_root(command: Path, work_dir: Path) -> dict[str, Any]:
    """What `duxnet probe` prints outside of the unit. Raises SandboxError."""
    return _probed([str(command), "probe", "--format", "json", "--work-dir", str(work_dir)])


def _probed(command: Sequence[str]) -> dict[str, Any]:
    try:
        result = subprocess.run(  # noqa: S603 - our own command, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SandboxError(f"the probe did not end within {TIMEOUT_SECONDS} s") from None
    except OSError as error:
        raise SandboxError(f"{command[0]}: {error.strerror}") from None
    try:
        found = json.loads(result.stdout)
    except ValueError:
        words = (result.stderr.strip() or result.stdout.strip())[-500:]
        raise SandboxError(f"exit status {result.returncode}: {words}") from None
    if not isinstance(found, dict) or "capabilities" not in found:
        raise SandboxError("the output of the probe is not its JSON")
    return found
