"""Builds the record that a node registers from the probe's report and the settings.

Also summarises it in one line, and decides when it has changed enough to be registered again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node, NodeCapabilities
from registry_core.version import __version__

if TYPE_CHECKING:
    from agent.probe.report import ProbeReport
    from agent.settings import AgentSettings
    from registry_core.identity.identity_files import NodeIdentity

__all__ = ["NO_ADDRESS", "changed_fields", "describe", "offer_text"]

NO_ADDRESS = "127.0.0.1"  # used when no other machine can reach the node: a record must hold an address

# Smaller differences are ignored: on a shared or compressing file system the size varies with every write.
SAME_SIZE_SHARE = 0.01
_SIZES = ("memory_gb", "storage_gb")
_DESCRIPTION = (
    "ip_address", "addresses", "port", "wallet_address", "hostname", "os_version", "agent_version", "public_key",
    "tags",
)  # fmt: skip


def describe(report: ProbeReport, identity: NodeIdentity, settings: AgentSettings) -> Node:
    """The record to register. Its address is `NO_ADDRESS` if the node has no other."""
    addresses = tuple(report.addresses)
    return Node(
        id=identity.id,
        public_key=identity.public_key,
        ip_address=report.primary_address or next(iter(addresses), NO_ADDRESS),
        addresses=addresses,
        port=settings.port or None,
        wallet_address=settings.wallet_address,
        hostname=report.host["hostname"] or "",
        os_version=report.host["os_version"] or "",
        agent_version=__version__,
        tags=FrozenMap(settings.tags),
        capabilities=report.capabilities,
    )


def changed_fields(before: Node, now: Node) -> list[str]:
    """The names of the fields that differ between two records; sizes only if they differ by more than 1 %."""
    changed = [name for name in _DESCRIPTION if getattr(before, name) != getattr(now, name)]
    old, new = before.capabilities, now.capabilities
    close = {name: getattr(old, name) for name in _SIZES if _is_close(getattr(old, name), getattr(new, name))}
    new = replace(new, **close)
    if new != old:
        changed += [name for name in vars(new) if getattr(new, name) != getattr(old, name)]
    return changed


def _is_close(before: float, now: float) -> bool:
    return abs(now - before) <= SAME_SIZE_SHARE * before


def offer_text(capabilities: NodeCapabilities) -> str:
    """`4 CPUs, 16.6 GB memory, 250 GB storage, no GPU`."""
    cpus = f"{capabilities.cpu_cores} CPU{'' if capabilities.cpu_cores == 1 else 's'}"
    usable = [gpu for gpu in capabilities.gpus if gpu.usable]
    names = sorted({gpu.model or gpu.vendor for gpu in usable})
    gpus = f"{len(usable)} GPU{'' if len(usable) == 1 else 's'} ({', '.join(names)})" if usable else "no GPU"
    if not usable and capabilities.gpu_enabled:
        gpus = "GPU"
    return f"{cpus}, {capabilities.memory_gb:.4g} GB memory, {capabilities.storage_gb:.4g} GB storage, {gpus}"
