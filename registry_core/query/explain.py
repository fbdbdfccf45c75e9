"""Why a node does not answer a query: each condition that it fails, and what would mend it.

Here: one sentence a condition. It agrees with `matching`: a node that fails nothing here matches there.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry_core.models.columns import GpuGroup, hundredths
from registry_core.models.node import Node
from registry_core.models.status import Admission, Condition, Liveness, Scheduling
from registry_core.query.matching import has_gpus, least_hundredths
from registry_core.query.node_query import NodeQuery

__all__ = ["Failing", "failing", "withheld"]


@dataclass(frozen=True)
class Failing:
    """One condition that a node fails: its name, what the query wants, what the node has, what would mend it."""

    condition: str
    wanted: str
    found: str
    remedy: str


def failing(node: Node, query: NodeQuery, expected_uptime: float = 1.0) -> list[Failing]:
    """Everything that keeps `node` out of the answer to `query`, apart from order, limit and cursor.

    `expected_uptime` is the node's probability to stay, for a query with `min_uptime_probability`.
    """
    found = _readiness(node) if query.only_healthy else []
    least = least_hundredths(query.min_reputation)
    if hundredths(node.reputation) < least:
        found.append(
            Failing("min_reputation", f"{least / 100:.2f}", f"{node.reputation:.2f}", "more tasks that succeed")
        )
    found.extend(_capabilities(node, query))
    if query.wallet_address is not None and node.wallet_address != query.wallet_address:
        found.append(Failing("wallet", query.wallet_address, node.wallet_address, "register with that wallet"))
    for key, value in query.tags.items():
        if node.tags.get(key) != value:
            found.append(Failing(f"tag {key}", value, node.tags.get(key, ""), "set the tag in the agent's settings"))
    if expected_uptime < query.min_uptime_probability:
        least_uptime = f"{query.min_uptime_probability:g}"
        found.append(
            Failing("min_uptime_probability", least_uptime, f"{expected_uptime:.3f}", "more hours of being live")
        )
    if node.id in query.exclude:
        found.append(Failing("exclude", "another node", node.id, "leave it out of exclude"))
    return found


def withheld(node: Node) -> list[Failing]:
    """What admission and scheduling have against giving work to `node`, however well it is."""
    found = []
    if node.admission not in (Admission.APPROVED, Admission.PROBATION):
        reason = f"{node.admission} ({node.admission_reason})" if node.admission_reason else str(node.admission)
        found.append(Failing("admission", "approved or probation", reason, "an operator approves the node"))
    if node.scheduling is not Scheduling.ELIGIBLE:
        reason = node.cordon.reason if node.cordon is not None else ""
        found.append(Failing("scheduling", "eligible", f"cordoned ({reason})", "an operator lifts the cordon"))
    return found


def _readiness(node: Node) -> list[Failing]:
    found = withheld(node)
    if node.liveness is not Liveness.LIVE:
        found.append(
            Failing("liveness", "live", str(node.liveness), "look whether its agent runs and reaches the registry")
        )
    found.extend(
        Failing(f"condition {gauge}", "ok", "critical", f"bring the node's {gauge} down")
        for gauge in ("load", "memory", "disk")
        if getattr(node.health.conditions, gauge) is Condition.CRITICAL
    )
    return found


def _capabilities(node: Node, query: NodeQuery) -> list[Failing]:
    found: list[Failing] = []
    offer, demand = node.capabilities, query.min_capabilities
    if demand is not None:
        found.extend(
            Failing(name, f"at least {getattr(demand, name):g}", f"{getattr(offer, name):g}", "a larger node")
            for name in ("cpu_cores", "memory_gb", "storage_gb")
            if getattr(offer, name) < getattr(demand, name)
        )
        if demand.gpu_enabled and not offer.gpu_enabled:
            reasons = ", ".join(gpu.reason for gpu in offer.gpus if gpu.reason) or "none"
            found.append(Failing("gpu_enabled", "a usable GPU", reasons, "see duxnet probe on the node"))
    if query.gpus is not None:
        groups = tuple(
            GpuGroup(1, gpu.vendor.lower(), gpu.model.lower(), gpu.memory_gb) for gpu in offer.gpus if gpu.usable
        )
        if not has_gpus(groups, query.gpus):
            held = ", ".join(f"{gpu.vendor} {gpu.model} {gpu.memory_gb:g} GB" for gpu in offer.gpus) or "none"
            found.append(Failing("gpus", f"{query.gpus.count} of that kind", held, "see duxnet probe on the node"))
    return found
