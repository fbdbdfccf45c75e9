"""Publishes the agent's status: in the status file, as a line in the terminal or for systemd, and as log lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from agent.sampler import Sample
from agent.status_file import AgentStatus, StatusFile
from agent.status_line import StatusLine
from duxnet.process.logs import configure_logs, is_journal
from duxnet.process.notify import Notifier
from registry_core.errors import StoreError, reason_of

if TYPE_CHECKING:
    from duxnet.process.settings import LogSettings

__all__ = ["StatusPublisher"]

_log = logging.getLogger("agent")


class StatusPublisher:
    """Owns the terminal's line, the log set-up and the status file. `once` leaves the terminal to the result."""

    def __init__(self, environ: Mapping[str, str], *, once: bool) -> None:
        self._environ = environ
        self._screen = StatusLine() if sys.stderr.isatty() and not once else None  # noqa: TID251 - only queried
        self.notifier = Notifier(environ)
        self._quiet = self._screen is not None or is_journal(environ)
        self._file: Optional[StatusFile] = None
        self._cannot_write: Optional[str] = None
        self._reported_at: Optional[float] = None

    def set_up_logs(self, settings: LogSettings) -> None:
        """Configure the logs, at start and after a reload."""
        write = self._screen.above if self._screen is not None else None
        configure_logs(settings.format, settings.level, self._environ, write)

    def use_folder(self, state_dir: Path) -> None:
        """Write the status file from now on."""
        self._file = StatusFile(state_dir, self._environ)

    def reported(self, status: AgentStatus, *, delivered: bool) -> None:
        """Publish a report to the status file, to systemd, and to the log unless a terminal or the journal shows it."""
        if delivered and status.sample is not None:
            level = logging.DEBUG if self._quiet else logging.INFO
            _log.log(level, "reported: %s", status.sample, extra={"fields": _fields(status.sample)})
        if delivered:
            self._reported_at = time.time()
        self.save(status)
        self.notifier.status(self._line_for_systemd(status))

    def ready(self, status: AgentStatus) -> None:
        """Notify systemd that the start or a reload is complete."""
        self.notifier.ready(self._line_for_systemd(status))

    def save(self, status: AgentStatus) -> None:
        """Replace the status file. A failure is logged once and never stops the agent."""
        if self._file is None:
            return
        try:
            self._file.write(status)
        except (OSError, StoreError) as error:
            reason = str(error) if isinstance(error, StoreError) else f"{self._file.path}: {reason_of(error)}"
            if reason != self._cannot_write:
                _log.warning("cannot write the status file: %s", reason)
            self._cannot_write = reason
        else:
            self._cannot_write = None

    def draw(self, status: AgentStatus, age_seconds: float, next_seconds: float) -> None:
        """Update the line in the terminal."""
        if self._screen is not None:
            now = f"{status.newest()} ({age_seconds:.0f} s ago) · next in {next_seconds:.0f} s"
            self._screen.show(f"{status.who()} · {status.offer} · {now}", f"{status.who()} · {now}", now)

    def undraw(self) -> None:
        """Remove the line, before the last log lines."""
        if self._screen is not None:
            self._screen.end()

    def _line_for_systemd(self, status: AgentStatus) -> str:
        """The registration and the time of the last report, not its age: systemd's line is not updated in between."""
        at = self._reported_at
        reported = "no report yet" if at is None else time.strftime("last report %H:%M:%S UTC", time.gmtime(at))
        return f"registered as {status.who()}, {reported} · {status.offer} · {status.newest()}"

    def longest_wait_seconds(self) -> float:
        """How long the main loop may sleep: a countdown needs every second, a watchdog a third of its time."""
        waits = [3600.0]
        if self._screen is not None:
            waits.append(1.0)
        if self.notifier.watchdog_seconds is not None:
            waits.append(self.notifier.watchdog_seconds / 3)
        return min(waits)


def _fields(sample: Sample) -> dict[str, object]:
    return {name: value for name, value in asdict(sample).items() if value not in (None, ())}
