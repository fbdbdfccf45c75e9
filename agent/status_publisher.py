"""How people learn what the agent does: the status file, one line in the terminal or for systemd, log lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from agent.description import offer_text
from agent.reporter import Standing
from agent.sampler import Sample
from agent.status_file import NO_WORK, AgentStatus, StatusFile
from agent.status_line import StatusLine
from duxnet.process.logs import configure_logs, is_journal
from duxnet.process.notify import Notifier
from registry_core.errors import StoreError, reason_of
from registry_core.models.encoding import capabilities_to_plain, health_to_plain
from registry_core.models.node import Node

if TYPE_CHECKING:
    from duxnet.process.log_settings import LogSettings

__all__ = ["AgentSnapshot", "StatusPublisher", "sample_text"]

_log = logging.getLogger("agent")


@dataclass(frozen=True)
class AgentSnapshot:
    """All that there is to tell at one moment."""

    node: Node
    registry: str
    state_dir: Path
    interval_seconds: float
    standing: Standing
    sample: Optional[Sample] = None
    probe_errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def who(self) -> str:
        """`n1abcdefghij… on host`."""
        return f"{self.node.id[:12]}… on {self.node.hostname or self.node.ip_address}"

    def newest(self) -> str:
        """The newest sample, or what is wrong."""
        if self.standing.problem is not None:
            return f"NOT REPORTING: {self.standing.problem}"
        return "no sample yet" if self.sample is None else sample_text(self.sample)

    def line(self) -> str:
        """Who I am, what I offer, the newest sample or what is wrong."""
        return f"{self.who()} · {offer_text(self.node.capabilities)} · {self.newest()}"

    def line_for_systemd(self, reported_at: Optional[float]) -> str:
        """As what it is registered and when it last reported: a moment, since nobody renews the line in between."""
        moment = "none yet" if reported_at is None else time.strftime("%H:%M:%S UTC", time.gmtime(reported_at))
        offer = offer_text(self.node.capabilities)
        return f"registered as {self.who()}, last report {moment} · {offer} · {self.newest()}"


class StatusPublisher:
    """Owns the terminal's line, the log set-up and the status file. `once` keeps the terminal for the answer."""

    def __init__(self, environ: Mapping[str, str], *, once: bool) -> None:
        self._environ = environ
        self._screen = StatusLine() if sys.stderr.isatty() and not once else None  # noqa: TID251 - asked only
        self._notifier = Notifier(environ)
        self._quiet = self._screen is not None or is_journal(environ)
        self._file: Optional[StatusFile] = None
        self._cannot_write: Optional[str] = None
        self._reported_at: Optional[float] = None

    @property
    def notifier(self) -> Notifier:
        """The way to systemd."""
        return self._notifier

    def set_up_logs(self, settings: LogSettings) -> None:
        """At start and after a reload."""
        write = self._screen.above if self._screen is not None else None
        configure_logs(settings.format, settings.level, self._environ, write)

    def use_folder(self, state_dir: Path) -> None:
        """From now on the status file is kept."""
        self._file = StatusFile(state_dir, self._environ)

    def told(self, snapshot: AgentSnapshot, *, delivered: bool) -> None:
        """A report was made: status file, systemd, and a log line where nobody watches the other two."""
        if delivered and snapshot.sample is not None:
            level = logging.DEBUG if self._quiet else logging.INFO
            _log.log(level, "reported: %s", sample_text(snapshot.sample), extra={"fields": _fields(snapshot.sample)})
        if delivered:
            self._reported_at = time.time()
        self.save(snapshot, "running")
        self._notifier.status(snapshot.line_for_systemd(self._reported_at))

    def ready(self, snapshot: AgentSnapshot) -> None:
        """Started, or done reloading."""
        self._notifier.ready(snapshot.line_for_systemd(self._reported_at))

    def save(self, snapshot: AgentSnapshot, state: str) -> None:
        """Replace the status file. That it cannot be written is said once and never stops the agent."""
        if self._file is None:
            return
        try:
            self._file.write(_status(snapshot, state))
        except (OSError, StoreError) as error:
            reason = str(error) if isinstance(error, StoreError) else f"{self._file.path}: {reason_of(error)}"
            if reason != self._cannot_write:
                _log.warning("the status file cannot be written: %s", reason)
            self._cannot_write = reason
        else:
            self._cannot_write = None

    def draw(self, snapshot: AgentSnapshot, age_seconds: float, next_seconds: float) -> None:
        """Renew the line in the terminal."""
        if self._screen is not None:
            now = f"{snapshot.newest()} ({age_seconds:.0f} s ago) · next in {next_seconds:.0f} s"
            offer = offer_text(snapshot.node.capabilities)
            self._screen.show(f"{snapshot.who()} · {offer} · {now}", f"{snapshot.who()} · {now}", now)

    def undraw(self) -> None:
        """Take the line away, before the last log lines."""
        if self._screen is not None:
            self._screen.end()

    def longest_wait_seconds(self) -> float:
        """How long the main loop may sleep: a countdown wants every second, a watchdog half its time."""
        waits = [3600.0]
        if self._screen is not None:
            waits.append(1.0)
        if self._notifier.watchdog_seconds is not None:
            waits.append(self._notifier.watchdog_seconds / 3)
        return min(waits)


def sample_text(sample: Sample) -> str:
    """`load 0.31, memory 12 %, disk 24 %, cpu 3 %`; a gauge that could not be read is `?`."""
    load = "?" if sample.load_average is None else f"{sample.load_average:.2f}"
    parts = [f"load {load}", f"memory {_percent(sample.memory_usage)}", f"disk {_percent(sample.disk_usage)}"]
    if sample.cpu_usage is not None:
        parts.append(f"cpu {_percent(sample.cpu_usage)}")
    return ", ".join(parts)


def _percent(value: Optional[float]) -> str:
    return "?" if value is None else f"{value:.0f} %"


def _fields(sample: Sample) -> dict[str, object]:
    return {name: value for name, value in asdict(sample).items() if value not in (None, ())}


def _status(snapshot: AgentSnapshot, state: str) -> AgentStatus:
    node, standing = snapshot.node, snapshot.standing
    health = None if standing.health is None else health_to_plain(standing.health)
    return AgentStatus(
        state=state,
        node_id=node.id,
        hostname=node.hostname,
        offer=offer_text(node.capabilities),
        registry=snapshot.registry,
        state_dir=str(snapshot.state_dir),
        interval_seconds=snapshot.interval_seconds,
        capabilities=capabilities_to_plain(node.capabilities),
        sample=None if snapshot.sample is None else asdict(snapshot.sample),
        conditions=None if health is None else health["conditions"],
        problem=standing.problem,
        probe_errors=snapshot.probe_errors,
        warnings=(*snapshot.warnings, *(f"{NO_WORK}{reason}" for reason in standing.withheld)),
        reports_delivered=standing.delivered,
        reports_failed=standing.failed,
    )
