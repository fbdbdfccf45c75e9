"""The result of all probes: the capabilities, the readings behind them, and the failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.probe.reading import Failure, Reading

if TYPE_CHECKING:
    from registry_core.models.node import NodeCapabilities

__all__ = ["CAPABILITY_DEFAULTS", "SCHEMA", "ProbeReport"]

SCHEMA = "duxnet.probe/1.0"

# The fields of NodeCapabilities with their defaults; the reading of the same name fills each. They are repeated here,
# because importing the record takes a quarter of the probe's start time; a test ensures that both agree.
CAPABILITY_DEFAULTS: dict[str, Any] = {
    "cpu_cores": 0,
    "memory_gb": 0.0,
    "storage_gb": 0.0,
    "gpu_enabled": False,
    "gpus": [],
    "cpu_quota": None,
    "host_cpus": None,
    "physical_cores": None,
    "cpu_model": "",
    "architecture": "",
    "kernel": "",
}
_HOST = ("hostname", "os_version", "kernel", "boot_id", "machine_hint", "container", "virtual_machine")


class ProbeReport(NamedTuple):
    """The newest readings of all probes that have run, in the order of the probes."""

    readings: tuple[Reading, ...]
    errors: tuple[Failure, ...]

    @property
    def capabilities(self) -> NodeCapabilities:
        """The record for the registry. Unknown fields have their defaults."""
        from registry_core.models.encoding import capabilities_from_plain

        plain = self.capabilities_to_plain()
        return capabilities_from_plain(
            {name: CAPABILITY_DEFAULTS[name] if value is None else value for name, value in plain.items()}
        )

    @property
    def host(self) -> dict[str, Any]:
        """hostname, os_version, kernel, boot_id, machine_hint, container, virtual_machine; None if unknown."""
        values = self._values()
        return {name: values.get(name) for name in _HOST}

    @property
    def primary_address(self) -> Any:
        """The address from which the registry, or else the internet, is reached; None if there is none."""
        return self._values().get("primary_address")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses that others can reach: the primary one first, public before private."""
        return tuple(self._values().get("addresses") or ())

    def _values(self) -> dict[str, Any]:
        return {reading.name: reading.value for reading in self.readings}

    def capabilities_to_plain(self) -> dict[str, Any]:
        """The fields of NodeCapabilities as JSON values; None if not measured or unknown."""
        values = self._values()
        return {name: values.get(name) for name in CAPABILITY_DEFAULTS}

    def to_plain(self) -> dict[str, Any]:
        """The JSON of `duxnet probe`."""
        return {
            "schema": SCHEMA,
            "capabilities": self.capabilities_to_plain(),
            "readings": [reading.to_plain() for reading in self.readings],
            "errors": [failure.to_plain() for failure in self.errors],
        }
