"""The probes: each has a name, a cadence, a deadline and one method that returns readings.

This is the only list of them, in the order of the output. Between runs a probe keeps no state but unfinished calls
and what it cannot query now (a sleeping GPU).
"""

from __future__ import annotations

from typing import Protocol

from agent.probe.options import ProbeOptions
from agent.probe.probes.cpu import CpuProbe
from agent.probe.probes.gpu import GpuProbe
from agent.probe.probes.host import HostProbe
from agent.probe.probes.memory import MemoryProbe
from agent.probe.probes.network import NetworkProbe
from agent.probe.probes.storage import StorageProbe
from agent.probe.reading import Failure, Reading
from agent.probe.source import Source

__all__ = ["PROBE_NAMES", "Probe", "all_probes"]

PROBE_NAMES = ("cpu", "memory", "storage", "gpu", "network", "host")


class Probe(Protocol):
    """The interface of a probe. The agent runs it every `cadence_seconds`, for at most `deadline_seconds`."""

    name: str
    cadence_seconds: float
    deadline_seconds: float

    def read(self, source: Source, options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        """The current readings, and what could not be read. The absence of hardware is not a failure."""
        ...


def all_probes() -> tuple[Probe, ...]:
    """One of each, in the order of `PROBE_NAMES`."""
    return (CpuProbe(), MemoryProbe(), StorageProbe(), GpuProbe(), NetworkProbe(), HostProbe())
