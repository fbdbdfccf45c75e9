"""The operator's options for the probe: the folder in which work is stored, the reserve, and the overrides.

They are checked when constructed. Flags, environment and file are read elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from registry_core.errors import ValidationError
from registry_core.models import limits

__all__ = ["OVERRIDABLE", "ProbeOptions", "options_of", "override_value", "registry_host"]

# What can be overridden: the probe that measures it, and its unit
OVERRIDABLE = {
    "cpu_cores": ("cpu", "CPUs"),
    "memory_gb": ("memory", "GB"),
    "storage_gb": ("storage", "GB"),
    "gpu_enabled": ("gpu", ""),
    "primary_address": ("network", ""),
    "hostname": ("host", ""),
}


_RESERVES = frozenset({"cpus", "memory_gb", "storage_gb"})


class ProbeOptions:
    """`reserve_*` is subtracted from the offer: whole CPUs, and GB (10⁹ bytes). `overrides` replaces readings.

    `registry_address` is the registry's host name or IP address, used to find which of our addresses reaches it.
    Raises ValidationError with the name of the field.
    """

    __slots__ = (
        "overrides",
        "registry_address",
        "reserve_cpus",
        "reserve_memory_gb",
        "reserve_storage_gb",
        "work_dir",
    )

    def __init__(
        self,
        work_dir: str = "/",
        *,
        registry_address: Optional[str] = None,
        reserve_cpus: int = 0,
        reserve_memory_gb: float = 0.0,
        reserve_storage_gb: float = 0.0,
        overrides: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.work_dir = _checked_folder(work_dir)
        self.registry_address = _checked_host("registry_address", registry_address) if registry_address else None
        self.reserve_cpus = limits.integer("reserve_cpus", reserve_cpus, 0, limits.MAX_CPUS)
        self.reserve_memory_gb = limits.number("reserve_memory_gb", reserve_memory_gb, 0, limits.MAX_MEMORY_GB)
        self.reserve_storage_gb = limits.number("reserve_storage_gb", reserve_storage_gb, 0, limits.MAX_STORAGE_GB)
        self.overrides = {name: _checked_override(name, value) for name, value in (overrides or {}).items()}


def options_of(agent: Mapping[str, Any], registry_target: str, state_folder: str) -> ProbeOptions:
    """The options from a table of [agent] settings; `work_dir` defaults to `state_dir`, and that to `state_folder`.

    Text in `reserve` and `override`, as it comes from the environment, may represent a number, true or false.
    Raises ValidationError with the name of the field of `ProbeOptions`.
    """
    folder = agent.get("work_dir") or agent.get("state_dir")
    reserve = agent["reserve"]
    kept_back = {f"reserve_{name}": override_value(reserve[name]) for name in _RESERVES & reserve.keys()}
    return ProbeOptions(
        os.path.abspath(os.path.expanduser(folder)) if folder else state_folder,  # noqa: PTH100, PTH111 - costs 3 ms
        registry_address=registry_host(registry_target),
        overrides={name: override_value(value) for name, value in agent["override"].items()},
        **kept_back,
    )


def override_value(value: Any) -> Any:
    """Convert text that represents a number, true or false; other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    import json

    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, (bool, int, float)) else value


def registry_host(target: str) -> Optional[str]:
    """The host in `http://host:port/path`, without the brackets of IPv6; None for a path or any other text."""
    scheme, separator, rest = target.partition("://")
    if not scheme or not separator:
        return None
    authority = rest.partition("/")[0].rpartition("@")[2]
    host = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    return host or None


def _checked_host(field: str, value: str) -> str:
    limits.displayable(field, value, "hostname", empty=False)
    if not all(letter.isalnum() or letter in ".-_:" for letter in value):
        raise ValidationError(field, value, "must be a host name or an IP address")
    return value


def _checked_folder(value: object) -> str:
    if not isinstance(value, str) or not value or "\x00" in value:
        raise ValidationError("work_dir", value, "must be the path of a folder")
    return value


def _checked_override(name: str, value: Any) -> Any:
    field = f"overrides.{name}"
    if name == "cpu_cores":
        return limits.integer(field, value, 1, limits.MAX_CPUS)
    if name == "memory_gb":
        return limits.number(field, value, 0, limits.MAX_MEMORY_GB)
    if name == "storage_gb":
        return limits.number(field, value, 0, limits.MAX_STORAGE_GB)
    if name == "gpu_enabled":
        return limits.boolean(field, value)
    if name == "hostname":
        return limits.displayable(field, value, "hostname", empty=False)
    if name == "primary_address":
        from registry_core.models.addresses import canonical_address

        return canonical_address(field, value)
    raise ValidationError(field, value, f"cannot be overridden; these can: {', '.join(OVERRIDABLE)}")
