"""Records as plain JSON values and back: one shape for files, command output and the network.

Reading checks types and ranges, and errors name the field. An unknown field of a node is kept in its map `extra`; an
unknown field of a record inside the node is an error. Derived fields (`is_healthy`, `is_ready`) are written for
convenience and never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Callable, Optional, TypeVar

from registry_core.errors import ValidationError
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap, thawed
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.own_names import OWN_NAMES
from registry_core.models.reputation import Evidence, Reputation
from registry_core.models.status import Admission, Condition, Conditions, Cordon, NodeHealth
from registry_core.models.times import time_from_text, time_to_text

__all__ = [
    "capabilities_from_plain",
    "capabilities_to_plain",
    "cordon_from_plain",
    "cordon_to_plain",
    "health_from_plain",
    "health_to_plain",
    "node_from_plain",
    "node_to_plain",
    "reputation_from_plain",
    "reputation_to_plain",
]

T = TypeVar("T")
Plain = dict[str, Any]

_NAMES: dict[type, tuple[str, ...]] = {
    record: tuple(item.name for item in fields(record)) for record in (Gpu, NodeCapabilities, Node)
}


def capabilities_to_plain(capabilities: NodeCapabilities) -> Plain:
    """Every field of `NodeCapabilities`, with `gpus` as a list of maps.

    A GPU's `shared_memory_gb` is omitted if it is 0: earlier versions reject a record that has it.
    """
    plain = {name: getattr(capabilities, name) for name in _NAMES[NodeCapabilities]}
    plain["gpus"] = [_gpu_to_plain(gpu) for gpu in capabilities.gpus]
    return plain


def capabilities_from_plain(plain: object) -> NodeCapabilities:
    """The record that a map describes; absent fields take their defaults. Raises ValidationError."""
    given = _map_of("capabilities", plain, NodeCapabilities)
    if "gpus" in given:
        given["gpus"] = _each("gpus", given["gpus"], _gpu_from_plain)
    return NodeCapabilities(**given)


def health_to_plain(health: NodeHealth) -> Plain:
    """The newest sample, its time as text, and the condition of each gauge."""
    return {
        "load_average": health.load_average,
        "memory_usage": health.memory_usage,
        "disk_usage": health.disk_usage,
        "last_heartbeat": time_to_text(health.last_heartbeat),
        "conditions": {
            "load": health.conditions.load.value,
            "memory": health.conditions.memory.value,
            "disk": health.conditions.disk.value,
        },
    }


def health_from_plain(plain: object) -> NodeHealth:
    """The health that `health_to_plain` wrote. Raises ValidationError."""
    given = _map("health", plain)
    conditions = _map("conditions", given.get("conditions", {}))
    return NodeHealth(
        load_average=limits.optional_number("load_average", given.get("load_average"), 0, limits.MAX_LOAD_AVERAGE),
        memory_usage=limits.optional_number("memory_usage", given.get("memory_usage"), 0, 100),
        disk_usage=limits.optional_number("disk_usage", given.get("disk_usage"), 0, 100),
        last_heartbeat=time_from_text("last_heartbeat", given.get("last_heartbeat")),
        conditions=Conditions(
            *(
                limits.choice(f"conditions.{gauge}", conditions.get(gauge, Condition.UNKNOWN), Condition)
                for gauge in ("load", "memory", "disk")
            )
        ),
    )


def cordon_to_plain(cordon: Optional[Cordon]) -> Optional[Plain]:
    """Reason, actor and end of a cordon, or None."""
    if cordon is None:
        return None
    return {"reason": cordon.reason, "actor": cordon.actor, "until": time_to_text(cordon.until)}


def cordon_from_plain(plain: object) -> Optional[Cordon]:
    """The cordon that `cordon_to_plain` wrote. Raises ValidationError."""
    if plain is None:
        return None
    given = _map("cordon", plain)
    return Cordon(
        reason=limits.text("reason", given.get("reason", ""), "reason"),
        actor=limits.text("actor", given.get("actor", ""), "actor"),
        until=time_from_text("until", given.get("until")),
    )


def node_to_plain(node: Node) -> Plain:
    """The whole snapshot. `extra` is omitted if it is empty: earlier versions reject a record that has it."""
    plain: Plain = {name: getattr(node, name) for name in _NAMES[Node]}
    if node.extra:
        plain["extra"] = thawed(node.extra)
    else:
        del plain["extra"]
    plain["addresses"] = list(node.addresses)
    plain["tags"] = dict(node.tags)
    plain["capabilities"] = capabilities_to_plain(node.capabilities)
    plain["health"] = health_to_plain(node.health)
    plain["registered_at"] = time_to_text(node.registered_at)
    for name in ("admission", "liveness", "scheduling"):
        plain[name] = str(plain[name])
    plain["cordon"] = cordon_to_plain(node.cordon)
    plain["is_healthy"] = node.is_healthy
    plain["is_ready"] = node.is_ready
    return plain


def node_from_plain(plain: object) -> Node:
    """The node that a map describes; absent fields take their defaults.

    Earlier versions put a node's unknown fields beside the known ones: these are moved into `extra`, except those with
    a name that is reserved for the registry, which are ignored.
    """
    given = _map("node", plain)
    if "ip_address" not in given:
        raise ValidationError("ip_address", None, "must be given")
    extra = given.pop("extra", {})
    beside = {name: given.pop(name) for name in list(given) if name not in _NAMES[Node]}
    if beside:
        extra = {**{name: beside[name] for name in beside if name not in OWN_NAMES}, **_map("extra", extra)}
    readers: Mapping[str, Callable[[object], object]] = {
        "capabilities": capabilities_from_plain,
        "health": health_from_plain,
        "cordon": cordon_from_plain,
    }
    for name, reader in readers.items():
        if name in given:
            given[name] = _read_within(name, reader, given[name])
    if "registered_at" in given:
        given["registered_at"] = time_from_text("registered_at", given["registered_at"])
    return Node(**given, extra=extra)


def reputation_to_plain(reputation: Reputation) -> Plain:
    """Every field; evidence as {dimension: {successes, failures}}."""
    return {
        "score": reputation.score,
        "posterior_mean": reputation.posterior_mean,
        "evidence": {
            name: {"successes": evidence.successes, "failures": evidence.failures}
            for name, evidence in reputation.evidence.items()
        },
        "standing": str(reputation.standing),
        "reasons": list(reputation.reasons),
    }


def reputation_from_plain(plain: Mapping[str, Any]) -> Reputation:
    """The reputation that `reputation_to_plain` wrote. Raises ValidationError."""
    evidence = plain.get("evidence", {})
    reasons = plain.get("reasons", [])
    if not isinstance(evidence, Mapping) or not isinstance(reasons, list):
        raise ValidationError("reputation", plain, "must hold evidence as a map and reasons as a list")
    return Reputation(
        score=limits.number("score", plain.get("score"), 0, 5),
        posterior_mean=limits.number("posterior_mean", plain.get("posterior_mean"), 0, 1),
        evidence=FrozenMap({str(name): _evidence_from_plain(name, item) for name, item in evidence.items()}),
        standing=limits.choice("standing", plain.get("standing", Admission.PROBATION), Admission),
        reasons=tuple(str(reason) for reason in reasons),
    )


def _gpu_to_plain(gpu: Gpu) -> Plain:
    plain = {name: getattr(gpu, name) for name in _NAMES[Gpu]}
    if not gpu.shared_memory_gb:
        del plain["shared_memory_gb"]
    return plain


def _gpu_from_plain(plain: object) -> Gpu:
    return Gpu(**_map_of("gpu", plain, Gpu))


def _map(what: str, plain: object) -> Plain:
    if not isinstance(plain, Mapping) or not all(isinstance(key, str) for key in plain):
        raise ValidationError(what, plain, "must be a map of fields")
    return dict(plain)


def _map_of(what: str, plain: object, record: type[object]) -> Plain:
    given = _map(what, plain)
    for name in given:
        if name not in _NAMES[record]:
            raise ValidationError(
                name, given[name], f"is not a field of {what}; its fields are {', '.join(_NAMES[record])}"
            )
    return given


def _each(name: str, value: object, reader: Callable[[object], T]) -> list[T]:
    if not isinstance(value, (list, tuple)):
        raise ValidationError(name, value, "must be a list")
    return [_read_within(f"{name}[{index}]", reader, item) for index, item in enumerate(value)]


def _read_within(name: str, reader: Callable[[object], T], value: object) -> T:
    try:
        return reader(value)
    except ValidationError as error:
        raise (error if error.field == name else error.within(name)) from None


def _evidence_from_plain(name: str, plain: object) -> Evidence:
    if not isinstance(plain, Mapping):
        raise ValidationError(f"evidence.{name}", plain, "must be a map of fields")
    return Evidence(
        limits.number(f"evidence.{name}.successes", plain.get("successes", 0.0), 0, limits.MAX_EVIDENCE),
        limits.number(f"evidence.{name}.failures", plain.get("failures", 0.0), 0, limits.MAX_EVIDENCE),
    )
