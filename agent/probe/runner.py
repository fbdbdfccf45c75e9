"""Runs the probes, each with a deadline. A failure is recorded and does not affect the other probes.

The runner keeps the newest result of every probe, so that a run of one probe still returns a complete report. It is
safe to call from several threads. The agent's schedule decides when to run which probe, by `cadences()`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Optional

from agent.probe.deadline import Deadlines, MissedDeadline
from agent.probe.options import ProbeOptions
from agent.probe.overrides import apply_operator
from agent.probe.plausibility import believable
from agent.probe.probes import PROBE_NAMES, Probe, all_probes
from agent.probe.probes.gpu import GpuProbe
from agent.probe.reading import Failure, Reading
from agent.probe.report import ProbeReport
from agent.probe.source import Source, SourceError
from registry_core.errors import ValidationError

__all__ = ["ProbeRunner"]

_Result = tuple[list[Reading], list[Failure]]


class ProbeRunner:
    """The probes of one source. `probes` is for tests; by default all probes run."""

    def __init__(
        self, source: Source, options: Optional[ProbeOptions] = None, probes: Optional[Collection[Probe]] = None
    ) -> None:
        self._source = source
        self._options = options or ProbeOptions()
        self._probes = {probe.name: probe for probe in (all_probes() if probes is None else probes)}
        self._deadlines = Deadlines()
        self._newest: dict[str, _Result] = {}
        self._fingerprints: dict[str, str] = {}
        self._lock = threading.Lock()

    def cadences(self) -> Mapping[str, float]:
        """Probe name → seconds between two runs."""
        return {name: probe.cadence_seconds for name, probe in self._probes.items()}

    def run(self, only: Optional[Collection[str]] = None) -> ProbeReport:
        """Run the named probes (all by default) and return the newest results. Raises ValidationError for a bad name.

        Another probe that ran before runs too if its fingerprint has changed, as after a driver was loaded.
        """
        for name in only or ():
            if name not in self._probes:
                raise ValidationError("only", name, f"must be among {', '.join(PROBE_NAMES)}")
        for name, probe in self._probes.items():
            if only is None or name in only or self._has_changed(name):
                self._note_fingerprint(name)
                result = self._run_one(probe)
                with self._lock:
                    self._newest[name] = result
        return self._report()

    def _has_changed(self, name: str) -> bool:
        with self._lock:
            known = self._fingerprints.get(name)
        return known is not None and known != self._fingerprint(name)

    def _note_fingerprint(self, name: str) -> None:
        fingerprint = self._fingerprint(name)
        with self._lock:
            if fingerprint is not None:
                self._fingerprints[name] = fingerprint

    def _fingerprint(self, name: str) -> Optional[str]:
        """A cheap summary of what a probe depends on; None for a probe without one."""
        probe = self._probes[name]
        return probe.fingerprint(self._source) if isinstance(probe, GpuProbe) else None

    def _run_one(self, probe: Probe) -> _Result:
        readings, failures = self._measured(probe)
        kept, unbelievable = believable(probe.name, readings)
        return apply_operator(probe.name, kept, self._options), [*failures, *unbelievable]

    def _measured(self, probe: Probe) -> _Result:
        try:
            result: _Result = self._deadlines.call(
                probe.name, probe.deadline_seconds, lambda: probe.read(self._source, self._options)
            )
        except MissedDeadline as late:
            return [], [Failure(probe.name, str(late))]
        except SourceError as error:
            return [], [Failure(probe.name, str(error))]
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return [], [Failure(probe.name, f"{where}{error.strerror or error}")]
        except Exception as error:  # noqa: BLE001 - isolates the probes from each other
            return [], [Failure(probe.name, f"{type(error).__name__}: {error}")]
        return result

    def _report(self) -> ProbeReport:
        with self._lock:
            results = [self._newest[name] for name in self._probes if name in self._newest]
        return ProbeReport(
            tuple(reading for readings, _ in results for reading in readings),
            tuple(failure for _, failures in results for failure in failures),
        )
