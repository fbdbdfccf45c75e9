"""Which nodes answer a query: the plain definition. The index must give exactly what this gives, in this order.

Here: what a demand means and where equality counts. Not here: how candidates are found (`table`).
"""

from __future__ import annotations

from registry_core.models.columns import GpuGroup, hundredths
from registry_core.models.node import Node, NodeCapabilities
from registry_core.query.node_query import GpuDemand, NodeQuery

__all__ = ["has_capabilities", "has_gpus", "least_hundredths", "matches"]


def least_hundredths(min_reputation: float) -> int:
    """The lowest score, in hundredths, that satisfies `min_reputation`.

    Scores are rounded to 0.01 before they are compared, so 3.03 demands 3.03, and 3.031 demands 3.04.
    """
    least = int(min_reputation * 100)
    while least > 0 and (least - 1) / 100 >= min_reputation:
        least -= 1
    while least / 100 < min_reputation:
        least += 1
    return least


def has_capabilities(offer: NodeCapabilities, demand: NodeCapabilities) -> bool:
    """Every field of `demand` that is not at its default is met; equal is enough, compared as IEEE doubles."""
    return (
        offer.cpu_cores >= demand.cpu_cores
        and offer.memory_gb >= demand.memory_gb
        and offer.storage_gb >= demand.storage_gb
        and (offer.gpu_enabled or not demand.gpu_enabled)
    )


def has_gpus(groups: tuple[GpuGroup, ...], demand: GpuDemand) -> bool:
    """Enough usable GPUs of the demanded kind stand in one node."""
    fitting = 0
    for group in groups:
        if (
            (not demand.vendor or group.vendor == demand.vendor)
            and demand.model in group.model
            and group.memory_gb >= demand.memory_gb
        ):
            fitting += group.number
    return fitting >= demand.count


def _gpu_groups_of(node: Node) -> tuple[GpuGroup, ...]:
    return tuple(
        GpuGroup(1, gpu.vendor.lower(), gpu.model.lower(), gpu.memory_gb)
        for gpu in node.capabilities.gpus
        if gpu.usable
    )


def matches(node: Node, query: NodeQuery) -> bool:
    """True when `node` meets every condition of `query`; order, limit and cursor are not looked at."""
    return (
        hundredths(node.reputation) >= least_hundredths(query.min_reputation)
        and (node.is_ready or not query.only_healthy)
        and (query.min_capabilities is None or has_capabilities(node.capabilities, query.min_capabilities))
        and (query.wallet_address is None or node.wallet_address == query.wallet_address)
        and (query.gpus is None or has_gpus(_gpu_groups_of(node), query.gpus))
        and all(node.tags.get(key) == value for key, value in query.tags.items())
        and node.id not in query.exclude
    )
