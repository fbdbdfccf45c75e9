"""Runs the agent as a process: starts it, runs its schedule, handles signals and stops it cleanly.

Other modules report to the registry (`reporter`), measure (`sampler`, `probe`), plan (`schedule`) and show the status
(`status_publisher`).
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Collection, Mapping
from typing import Callable, Optional

from agent.description import NO_ADDRESS, describe, offer_text
from agent.open_registry import OwnNode, is_address, open_registry
from agent.probe.live_source import LiveSource
from agent.probe.reading import Failure
from agent.probe.runner import ProbeRunner
from agent.reporter import GAP_FILE, Description, Reporter
from agent.sampler import Sample, Sampler
from agent.schedule import Schedule, phase_seconds
from agent.settings import AgentSettings, RegistrySettings
from agent.state_dir import REGISTRY_FILE, StateDir
from agent.status_file import NO_WORK, AgentStatus
from agent.status_publisher import StatusPublisher
from duxnet.process.credentials import credential
from duxnet.process.errors import EXIT_PARTIAL, EXIT_RUNTIME, ConfigurationError
from duxnet.process.settings import LogSettings, Settings
from duxnet.process.signals import SignalInbox, StopRequested
from duxnet.process.terminal import say
from registry_core.contract import Registry
from registry_core.errors import RegistryError
from registry_core.identity.identity_files import ensure_identity, read_identity
from registry_core.models.encoding import capabilities_to_plain, health_to_plain
from registry_core.models.node import Node
from registry_core.storage.key_sources import find_keys
from registry_core.version import __version__

__all__ = ["Agent"]

_log = logging.getLogger("agent")

CLOSE_SECONDS = 1.2  # the agent promises to exit within 2 s after SIGTERM, even if a disk hangs
MISSED_INTERVALS = 4  # an embedded registry marks its node as down after this many intervals
MOST_FAILURES = 5
"""After this many reports in a row that failed because of a bug, the agent exits, so that systemd restarts it. Errors
of the registry or the network do not count."""
SAMPLE = "sample"
REPORT = "report"
JOIN_TOKEN_CREDENTIAL = "join-token"  # noqa: S105 - a name, as in LoadCredential= of the unit


class Agent:
    """One agent from start to stop. The constructor raises ConfigurationError, `start` also RegistryError.

    `load_settings` returns the current settings; with `once`, only the result is written to the terminal.
    """

    def __init__(
        self, load_settings: Callable[[], Settings], inbox: SignalInbox, environ: Mapping[str, str], once: bool = False
    ) -> None:
        self._load_settings = load_settings
        self._inbox = inbox
        self._environ = environ
        self._settings = load_settings()
        self._status_publisher = StatusPublisher(environ, once=once)
        self._status_publisher.set_up_logs(self._settings.section("log", LogSettings))
        self._schedule = Schedule(inbox.wake)
        self._probing = threading.Lock()
        self._sampled_at = time.monotonic()
        self._sample: Optional[Sample] = None
        self._paced_interval = 0.0  # 0: nothing is scheduled yet
        self._unreachable = False
        self._doing = SAMPLE  # what the report job does now: it measures or reports

    @property
    def _agent(self) -> AgentSettings:
        return self._settings.section("agent", AgentSettings)

    @property
    def _registry(self) -> RegistrySettings:
        return self._settings.section("registry", RegistrySettings)

    def start(self) -> None:
        """Do everything up to the first report."""
        _log.info("starting duxnet agent %s; configuration: %s", __version__, self._settings.config_file or "defaults")
        self._state = StateDir(self._agent.state_path(self._environ))
        self._status_publisher.use_folder(self._state.path)
        self._identity = ensure_identity(self._state.path)
        self._use_probes()
        self._found = self._probes.run()
        self._node = self._describe()
        self._warnings = self._check_for_copied_folder()
        self._target = self._registry.target or str(self._state.path / REGISTRY_FILE)
        self._reporter = Reporter(self._open_registry(), gap_file=self._state.path / GAP_FILE)
        self._log_start()
        self._describe_to_registry()
        delivered = self._send_report()
        self._inbox.stop_at_once = False  # before the status says "running": from here on a signal stops it cleanly
        self._publish_report(delivered=delivered)
        self._plan()

    def run(self) -> int:
        """Run the schedule until SIGTERM or SIGINT; returns the exit code."""
        self._status_publisher.ready(self._status())
        try:
            while (arrived := self._inbox.take()) in (None, signal.SIGHUP):
                if arrived is signal.SIGHUP:
                    self._reload()
                wait_seconds = self._schedule.run_due()
                if self._schedule.failures(SAMPLE) >= MOST_FAILURES:
                    _log.critical("%d reports in a row failed with errors of the agent itself: it exits", MOST_FAILURES)
                    self._stop("it cannot report")
                    return EXIT_RUNTIME
                if self._schedule.is_progressing():
                    self._status_publisher.notifier.watchdog()
                self._draw()
                self._inbox.wait(min(wait_seconds, self._status_publisher.longest_wait_seconds()))
            self._stop(arrived.name if arrived else "")
        except StopRequested as stop:  # during a reload
            self._stop(str(stop))
        return 0

    def once(self) -> int:
        """Stop after the first report; returns the exit code, which shows whether it was delivered and complete."""
        standing = self._reporter.standing
        whole = not self._found.errors and self._sample is not None and not self._sample.failures
        line = self._status().line()
        self._stop("one report was requested")
        say(line)
        if standing.problem is not None:
            return EXIT_RUNTIME
        return 0 if whole else EXIT_PARTIAL

    def _stop(self, reason: str) -> None:
        self._status_publisher.undraw()
        self._status_publisher.notifier.stopping()
        _log.info("stopping: %s", reason)
        self._schedule.stop()
        closing = threading.Thread(target=self._reporter.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        self._status_publisher.save(self._status("stopped"))
        if closing.is_alive():
            what = "a network" if is_address(self._target) else "a disk"
            _log.warning("exiting without waiting for %s that does not answer; the registration is kept", what)
        else:
            self._state.close()  # this process no longer writes there, even if the kernel keeps it alive
        delivered = self._reporter.standing.delivered
        _log.info("stopped after %d delivered report%s", delivered, "" if delivered == 1 else "s")

    def _use_probes(self) -> None:
        options = self._agent.probe_options(self._environ, self._registry.target)
        source = LiveSource()
        self._probes = ProbeRunner(source, options)
        self._sampler = Sampler(source, options.work_dir)

    def _describe(self) -> Node:
        node = describe(self._found, self._identity, self._agent)
        unreachable = not self._found.primary_address and node.ip_address == NO_ADDRESS
        if unreachable and not self._unreachable:
            _log.warning(
                "found no address that other machines can reach: this node is registered as %s; "
                "set agent.override.primary_address to the right one",
                NO_ADDRESS,
            )
        self._unreachable = unreachable
        return node

    def _status(self, state: str = "running") -> AgentStatus:
        node, standing = self._node, self._reporter.standing
        return AgentStatus(
            state=state,
            node_id=node.id,
            hostname=node.hostname,
            offer=offer_text(node.capabilities),
            registry=self._target,
            state_dir=str(self._state.path),
            interval_seconds=self._paced_interval or self._agent.interval_seconds,
            capabilities=capabilities_to_plain(node.capabilities),
            sample=self._sample,
            conditions=None if standing.health is None else health_to_plain(standing.health)["conditions"],
            problem=standing.problem,
            probe_errors=tuple(f"{error.probe}: {error.message}" for error in self._found.errors),
            warnings=(*self._warnings, *(f"{NO_WORK}{reason}" for reason in standing.withheld)),
            reports_delivered=standing.delivered,
            reports_failed=standing.failed,
        )

    def _open_registry(self) -> Registry:
        if is_address(self._target):
            own = OwnNode(
                self._state.path,
                self._agent.interval_seconds,
                self._found.host["machine_hint"] or "",
                self._found.host["boot_id"] or "",
                credential(JOIN_TOKEN_CREDENTIAL, self._environ),
            )
            return open_registry(self._target, options=self._registry.remote_options(), own_node=own)
        timeout_seconds = MISSED_INTERVALS * self._agent.interval_seconds
        keys = find_keys(self._registry.key_path(), self._environ)
        return open_registry(self._target, heartbeat_timeout_seconds=timeout_seconds, keys=keys)

    def _check_for_copied_folder(self) -> tuple[str, ...]:
        before = self._state.moved_from(self._found.host["machine_hint"])
        if before is None:
            return ()
        text = (
            f"{self._state.path} was used on another machine before. If it was moved, do nothing; if it was copied, "
            "two machines now share one identity: on this one, stop the agent, remove the folder and start again"
        )
        _log.warning("%s", text)
        return (text,)

    def _log_start(self) -> None:
        fields = {"node_id": self._identity.id, "registry": self._target, "state_dir": str(self._state.path)}
        _log.info("node %(node_id)s, state in %(state_dir)s, registry %(registry)s", fields, extra={"fields": fields})
        _log.info("offers %s", offer_text(self._node.capabilities))
        self._log_probe_errors(())

    def _plan(self) -> None:
        interval = self._paced_interval = max(self._agent.interval_seconds, self._reporter.requested_interval_seconds)
        self._plan_reports(interval)
        by_cadence: dict[float, list[str]] = {}
        for name, cadence_seconds in self._probes.cadences().items():
            by_cadence.setdefault(cadence_seconds, []).append(name)
        for cadence_seconds, names in by_cadence.items():
            phase = phase_seconds(self._identity.id, cadence_seconds)
            self._schedule.every(f"probe {' '.join(names)}", cadence_seconds, phase, self._probe_job(names))

    def _probe_job(self, names: list[str]) -> Callable[[], None]:
        return lambda: self._probe(names)

    def _probe(self, names: Optional[list[str]]) -> None:
        with self._probing:
            known = self._found.errors
            self._check_for_new_key()
            self._found = self._probes.run(names)
            self._node = self._describe()
        self._log_probe_errors(known)
        self._describe_to_registry()

    def _check_for_new_key(self) -> bool:
        """Use the key that `duxnet key rotate` made; True if there is one. The next run retries a failed read."""
        try:
            found = read_identity(self._state.path)
        except RegistryError as error:
            _log.warning("cannot read the node's key: %s", error)
            return False
        if found.id != self._identity.id:
            _log.warning(
                "%s now holds the key of another node, %s; it takes effect at the next start",
                self._state.path,
                found.id,
            )
            return False
        if found.public_key == self._identity.public_key:
            return False
        _log.info("the node's key was replaced; the new one is %s", found.public_key)
        self._identity = found
        return True

    def _log_probe_errors(self, known: Collection[Failure]) -> None:
        """Log each error once, not at every run."""
        logged = {(error.probe, error.message) for error in known}
        for error in self._found.errors:
            if (error.probe, error.message) not in logged:
                _log.warning("probe %s: %s", error.probe, error.message, extra={"fields": {"probe": error.probe}})

    def _describe_to_registry(self) -> None:
        self._reporter.describe(Description(self._node, self._agent.interval_seconds))

    def _report(self) -> None:
        self._publish_report(delivered=self._send_report())

    def _send_report(self) -> bool:
        self._doing = SAMPLE
        self._sample = self._sampler.take()
        self._sampled_at = time.monotonic()
        self._doing = REPORT
        return self._reporter.report(self._sample)

    def _publish_report(self, *, delivered: bool) -> None:
        self._status_publisher.reported(self._status(), delivered=delivered)
        self._follow_the_pace()

    def _follow_the_pace(self) -> None:
        """Use the interval that the registry requests, if it is longer than this node's own."""
        interval = max(self._agent.interval_seconds, self._reporter.requested_interval_seconds)
        if interval != self._paced_interval and self._paced_interval:
            self._paced_interval = interval
            self._plan_reports(interval)

    def _plan_reports(self, interval: float) -> None:
        phase = phase_seconds(self._identity.id, interval)
        self._schedule.every(SAMPLE, interval, phase, self._report, lambda: self._doing)

    def _draw(self) -> None:
        age = time.monotonic() - self._sampled_at
        self._status_publisher.draw(self._status(), age, self._schedule.seconds_to_next(SAMPLE))

    def _reload(self) -> None:
        """Apply a changed configuration; an invalid one changes nothing. Raises StopRequested, RegistryError."""
        self._status_publisher.notifier.reloading()
        self._inbox.stop_at_once = True
        try:
            self._use_settings(self._load_settings())
        except ConfigurationError as error:
            for problem in error.problems:
                _log.error("the new configuration is invalid: %s", problem)
            _log.error("the old configuration is kept")
        with self._probing:
            if replaced := self._check_for_new_key():
                self._node = self._describe()
        self._reporter.try_now()
        if replaced:
            self._describe_to_registry()
        self._schedule.soon(SAMPLE)
        self._inbox.stop_at_once = False
        self._status_publisher.ready(self._status())

    def _use_settings(self, new: Settings) -> None:
        """Apply all settings except those of the state directory and the registry, which need a restart."""
        old_agent = self._agent
        changed = new.changed_since(self._settings)
        fixed = [name for name in changed if name == "agent.state_dir" or name.startswith("registry.")]
        if fixed:
            _log.warning("%s: the change takes effect at the next start", ", ".join(fixed))
        self._settings = new
        self._status_publisher.set_up_logs(new.section("log", LogSettings))
        _log.info("configuration reloaded; changed: %s", ", ".join(changed) or "nothing")
        if self._agent == old_agent:
            return
        self._schedule.drop_all()
        self._paced_interval = 0.0
        self._use_probes()
        self._probe(None)
        self._plan()
