"""Queries and commands to the running systemd, through its own command-line tools.

Here: running them and reading their output. Not here: what to do with a unit (`install`).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from duxnet.process.errors import CommandError

__all__ = ["is_running", "journal_tail", "properties", "systemctl", "timedatectl"]

# Longer than TimeoutStartSec= of the units, so that systemd's own error arrives first.
TIMEOUT_SECONDS = 300


def is_running() -> bool:
    """Whether systemd is the init system of this machine: sd_booted(3)."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def systemctl(*arguments: str) -> str:
    """Run `systemctl ARGUMENTS` and return its output. Raises CommandError with its message if it fails."""
    result = _run(["systemctl", "--no-pager", *arguments])
    if result.returncode != 0:
        words = result.stderr.strip() or f"exit status {result.returncode}"
        raise CommandError(f"systemctl {' '.join(arguments)}: {words}", "Fix the cause that it names, then try again.")
    return result.stdout


def properties(service: str, names: Sequence[str]) -> Mapping[str, str]:
    """Properties of a unit as text. A unit that does not exist has LoadState=not-found."""
    output = systemctl("show", service, f"--property={','.join(names)}")
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def journal_tail(service: str, *, lines: int, priority: str = "debug") -> Sequence[str]:
    """The newest messages of a unit with at least this priority. Empty if there is no journal to read."""
    if shutil.which("journalctl") is None:
        return ()
    command = ["journalctl", "--no-pager", "--quiet", f"--unit={service}", f"--lines={lines}", f"--priority={priority}"]
    return tuple(_run([*command, "--output=short-iso"]).stdout.splitlines())


def timedatectl(name: str) -> str:
    """A property of the machine's clock, such as NTPSynchronized. Raises CommandError."""
    result = _run(["timedatectl", "show", f"--property={name}", "--value"])
    if result.returncode != 0:
        raise CommandError(f"timedatectl: {result.stderr.strip()}", "Check that systemd-timedated is installed.")
    return result.stdout.strip()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        text = " ".join(command)
        raise CommandError(
            f"{text}: no answer within {TIMEOUT_SECONDS} s", "`systemctl list-jobs` shows what it waits for."
        ) from None
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}", "Service commands need systemd.") from None
