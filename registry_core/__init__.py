"""The node registry: what a node is, how it is judged, found and kept.

Importing this package loads nothing heavy: each name is fetched when it is first used (PEP 562), so that a
probe can use the records without paying for the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry_core.contract import LocalRegistry, Registry, Reporting
    from registry_core.embedded.node_registry import NodeRegistry
    from registry_core.errors import (
        DamagedStoreError,
        EventsCompacted,
        NotSupportedError,
        ReadOnlyError,
        RegistryClosedError,
        RegistryError,
        SealedStoreError,
        StoreError,
        StoreInUseError,
        UnknownNodeError,
        UnsupportedSchemaError,
        ValidationError,
    )
    from registry_core.events import Event, EventKind
    from registry_core.models.node import Gpu, Node, NodeCapabilities
    from registry_core.models.reputation import Evidence, Reputation
    from registry_core.models.status import Admission, Condition, Conditions, Cordon, Liveness, NodeHealth, Scheduling
    from registry_core.query.conditions import Failing, GpuDemand
    from registry_core.query.node_query import NodeOrder, NodePage, NodeQuery
    from registry_core.rules.health import HealthThresholds
    from registry_core.storage.sealing import KeyRing, SealingKey
    from registry_core.version import __version__

__all__ = [
    "NodeRegistry",
    "Registry",
    "LocalRegistry",
    "Reporting",
    "Node",
    "NodeCapabilities",
    "Gpu",
    "NodeHealth",
    "Reputation",
    "Evidence",
    "HealthThresholds",
    "NodeQuery",
    "NodeOrder",
    "NodePage",
    "GpuDemand",
    "Failing",
    "Admission",
    "Liveness",
    "Scheduling",
    "Condition",
    "Conditions",
    "Cordon",
    "Event",
    "EventKind",
    "RegistryError",
    "ValidationError",
    "UnknownNodeError",
    "ReadOnlyError",
    "RegistryClosedError",
    "NotSupportedError",
    "EventsCompacted",
    "StoreError",
    "StoreInUseError",
    "DamagedStoreError",
    "SealedStoreError",
    "UnsupportedSchemaError",
    "KeyRing",
    "SealingKey",
    "__version__",
]

_HOME = {
    "contract": ("LocalRegistry", "Registry", "Reporting"),
    "errors": (
        "DamagedStoreError",
        "EventsCompacted",
        "NotSupportedError",
        "ReadOnlyError",
        "RegistryClosedError",
        "RegistryError",
        "SealedStoreError",
        "StoreError",
        "StoreInUseError",
        "UnknownNodeError",
        "UnsupportedSchemaError",
        "ValidationError",
    ),
    "events": ("Event", "EventKind"),
    "models.node": ("Gpu", "Node", "NodeCapabilities"),
    "query.conditions": ("Failing", "GpuDemand"),
    "query.node_query": ("NodeOrder", "NodePage", "NodeQuery"),
    "models.reputation": ("Evidence", "Reputation"),
    "models.status": ("Admission", "Condition", "Conditions", "Cordon", "Liveness", "NodeHealth", "Scheduling"),
    "embedded.node_registry": ("NodeRegistry",),
    "rules.health": ("HealthThresholds",),
    "storage.sealing": ("KeyRing", "SealingKey"),
    "version": ("__version__",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
