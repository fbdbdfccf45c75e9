"""How nodes are printed: as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from duxnet.cli.output import age_text, print_json, print_pairs, print_table, value_text
from duxnet.process.terminal import say
from registry_core.models.addresses import WITHHELD_ADDRESS
from registry_core.models.encoding import node_to_plain
from registry_core.models.reputation import Reputation
from registry_core.models.status import Admission, Condition, Liveness, Scheduling

if TYPE_CHECKING:
    from duxnet.cli.registry_client import RegistryClient
    from registry_core.models.node import Node
    from registry_core.query.conditions import Failing

__all__ = ["print_failing", "print_node", "print_nodes", "print_reputation", "state_text"]

_HEADER = (
    "ID", "HOST", "ADDRESS", "CPUS", "MEM GB", "DISK GB", "GPUS", "SCORE", "STATE", "LOAD", "MEM %", "DISK %", "SEEN",
)  # fmt: skip
_RIGHT = _HEADER[3:8] + _HEADER[9:]
_SHORTEST_ID = 12


def print_nodes(nodes: list[Node], cursor: Optional[str], client: RegistryClient, output: str) -> None:
    """Print a line for each node, or the JSON list. `cursor` is where the next page begins."""
    if output == "json":
        print_json({"schema": "duxnet.nodes/1.1", "nodes": [_plain(node, client) for node in nodes], "next": cursor})
        return
    width = _id_width([node.id for node in nodes])
    print_table(_HEADER, (_row(node, client, width) for node in nodes), _RIGHT)


def print_node(node: Node, client: RegistryClient, output: str) -> None:
    """Print everything about one node."""
    reputation = client.registry.get_reputation(node.id)
    if output == "json":
        plain = {"score": reputation.score, "posterior_mean": reputation.posterior_mean, "reasons": reputation.reasons}
        print_json({"schema": "duxnet.node/1.0", "node": _plain(node, client), "reputation": plain})
        return
    age = client.health_age_seconds(node)
    pairs = [
        ("id", node.id),
        ("state", state_text(node)),
        ("reputation", f"{node.reputation:.2f} of 5"),
        *(("", reason) for reason in reputation.reasons),
        ("health", _health_text(node)),
        ("seen", "never" if age is None else f"{age_text(age)} ago"),
        *_flat("", {name: value for name, value in _plain(node, client).items() if name not in _SHOWN_ABOVE}),
    ]
    print_pairs(pairs)


def print_reputation(node_id: str, reputation: Reputation, output: str) -> None:
    """Print a node's score with the evidence and the reasons for it."""
    if output == "json":
        from registry_core.models.encoding import reputation_to_plain

        print_json({"schema": "duxnet.reputation/1.0", "id": node_id, "reputation": reputation_to_plain(reputation)})
        return
    weights = reputation.evidence.items()
    pairs = [
        ("id", node_id),
        ("reputation", f"at least {reputation.score:.2f} of 5 (95 % confidence)"),
        ("best guess", f"{reputation.posterior_mean:.1%} of results are right"),
        ("standing", str(reputation.standing)),
        *((name, f"{item.successes:.4g} for, {item.failures:.4g} against") for name, item in weights),
        *(("because", reason) for reason in reputation.reasons),
    ]
    print_pairs(pairs)


def print_failing(node_id: str, failing: list[Failing], output: str) -> None:
    """Print each condition that a node fails, with its remedy."""
    if output == "json":
        from dataclasses import asdict

        found = [asdict(item) for item in failing]
        print_json({"schema": "duxnet.explanation/1.0", "id": node_id, "selected": not found, "failing": found})
    elif failing:
        rows = ((item.condition, item.wanted or "none", item.found or "none", item.remedy) for item in failing)
        print_table(("FAILS", "WANTED", "FOUND", "REMEDY"), rows)
    else:
        say(f"{node_id}: meets every condition")


_SHOWN_ABOVE = ("id", "health", "reputation", "is_healthy", "is_ready")


def state_text(node: Node) -> str:
    """`ready`, or in a few words why the node is not ready."""
    if node.is_ready:
        return "ready"
    words: list[str] = []
    if node.admission not in (Admission.APPROVED, Admission.PROBATION):
        words.append(f"{node.admission}: {node.admission_reason}" if node.admission_reason else str(node.admission))
    if node.liveness is not Liveness.LIVE:
        words.append(str(node.liveness))
    if node.scheduling is not Scheduling.ELIGIBLE:
        words.append(str(node.scheduling))
    words += [f"{name} critical" for name in _critical(node)]
    return ", ".join(words)


def _critical(node: Node) -> list[str]:
    conditions = node.health.conditions
    return [name for name in ("load", "memory", "disk") if getattr(conditions, name) is Condition.CRITICAL]


def _plain(node: Node, client: RegistryClient) -> dict[str, Any]:
    plain = node_to_plain(node)
    if node.ip_address == WITHHELD_ADDRESS:
        plain["ip_address"] = None
    age = client.health_age_seconds(node)
    plain["health"]["age_seconds"] = None if age is None else round(age, 1)
    return plain


def _row(node: Node, client: RegistryClient, width: int) -> tuple[str, ...]:
    capabilities, health = node.capabilities, node.health
    usable = sum(gpu.usable for gpu in capabilities.gpus)
    age = client.health_age_seconds(node)
    return (
        node.id[:width],
        node.hostname or "-",
        "hidden" if node.ip_address == WITHHELD_ADDRESS else node.ip_address,
        str(capabilities.cpu_cores or "-"),
        _number(capabilities.memory_gb or None, 1),
        _number(capabilities.storage_gb or None, 1),
        str(usable) if usable else ("yes" if capabilities.gpu_enabled else "-"),
        f"{node.reputation:.2f}",
        state_text(node),
        _number(health.load_average, 2),
        _number(health.memory_usage, 0),
        _number(health.disk_usage, 0),
        "-" if age is None else age_text(age),
    )


def _number(value: Optional[float], digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _id_width(ids: list[str]) -> int:
    """How many characters of the ids must be shown to tell them apart."""
    longest = max((len(node_id) for node_id in ids), default=_SHORTEST_ID)
    for width in range(_SHORTEST_ID, longest):
        if len({node_id[:width] for node_id in ids}) == len(ids):
            return width
    return longest


def _health_text(node: Node) -> str:
    health = node.health
    gauges = (
        (health.load_average, "load", ""),
        (health.memory_usage, "memory", " %"),
        (health.disk_usage, "disk", " %"),
    )
    known = [f"{name} {value:g}{unit}" for value, name, unit in gauges if value is not None]
    return ", ".join(known) or "unknown"


def _flat(parent: str, plain: dict[str, Any]) -> list[tuple[str, str]]:
    """Nested fields by their dotted names, without empty ones."""
    pairs: list[tuple[str, str]] = []
    for name, value in plain.items():
        if isinstance(value, dict):
            pairs += _flat(f"{parent}{name}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, item in enumerate(value):
                pairs += _flat(f"{parent}{name}[{index}].", item)
        elif value not in (None, "", []):
            pairs.append((f"{parent}{name}", value_text(value)))
    return pairs
