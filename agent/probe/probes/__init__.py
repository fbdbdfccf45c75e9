"""The probes: each has a name, a cadence, a deadline and one method that returns readings.

They are listed here, in the order of the output, and nowhere else. A probe keeps no state between runs but what
it must know of calls that are still out, and what it cannot ask now (a sleeping GPU).
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
    """What the runner calls, every `cadence_seconds` in the agent, waiting `deadline_seconds` at most."""

    name: str
    cadence_seconds: float
    deadline_seconds: float

    def read(self, source: Source, options: ProbeOptions) -> tuple[list[Reading], list[Failure]]:
        """The readings of now, and what could not be read. "Nothing of this kind here" is no failure."""
        ...


def all_probes() -> tuple[Probe, ...]:
    """One of each, in the order of `PROBE_NAMES`."""
    return (CpuProbe(), MemoryProbe(), StorageProbe(), GpuProbe(), NetworkProbe(), HostProbe())
