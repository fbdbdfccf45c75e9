"""The node registry: the model of a node, and how nodes are judged, found and stored.

Importing this package loads nothing heavy: each name is imported when it is first used (PEP 562), so that a probe can
use the records without loading the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_MODULES = {
    "contract": "LocalRegistry Registry Reporting",
    "embedded.node_registry": "NodeRegistry",
    "errors": (
        "DamagedStoreError EventsCompacted NotSupportedError ReadOnlyError RegistryClosedError RegistryError "
        "SealedStoreError StoreError StoreInUseError UnknownNodeError UnsupportedSchemaError ValidationError"
    ),
    "events": "Event EventKind",
    "models.node": "Gpu Node NodeCapabilities",
    "models.reputation": "Evidence Reputation",
    "models.status": "Admission Condition Conditions Cordon Liveness NodeHealth Scheduling",
    "query.conditions": "Failing GpuDemand",
    "query.node_query": "NodeOrder NodePage NodeQuery",
    "rules.health": "HealthThresholds",
    "storage.sealing": "KeyRing SealingKey",
    "version": "__version__",
}
"""Every public name, by the module that defines it."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = list(_MODULE_OF)

if TYPE_CHECKING:  # the same list again for type checkers, which cannot read the table; a test compares the two
    from registry_core.contract import LocalRegistry as LocalRegistry
    from registry_core.contract import Registry as Registry
    from registry_core.contract import Reporting as Reporting
    from registry_core.embedded.node_registry import NodeRegistry as NodeRegistry
    from registry_core.errors import DamagedStoreError as DamagedStoreError
    from registry_core.errors import EventsCompacted as EventsCompacted
    from registry_core.errors import NotSupportedError as NotSupportedError
    from registry_core.errors import ReadOnlyError as ReadOnlyError
    from registry_core.errors import RegistryClosedError as RegistryClosedError
    from registry_core.errors import RegistryError as RegistryError
    from registry_core.errors import SealedStoreError as SealedStoreError
    from registry_core.errors import StoreError as StoreError
    from registry_core.errors import StoreInUseError as StoreInUseError
    from registry_core.errors import UnknownNodeError as UnknownNodeError
    from registry_core.errors import UnsupportedSchemaError as UnsupportedSchemaError
    from registry_core.errors import ValidationError as ValidationError
    from registry_core.events import Event as Event
    from registry_core.events import EventKind as EventKind
    from registry_core.models.node import Gpu as Gpu
    from registry_core.models.node import Node as Node
    from registry_core.models.node import NodeCapabilities as NodeCapabilities
    from registry_core.models.reputation import Evidence as Evidence
    from registry_core.models.reputation import Reputation as Reputation
    from registry_core.models.status import Admission as Admission
    from registry_core.models.status import Condition as Condition
    from registry_core.models.status import Conditions as Conditions
    from registry_core.models.status import Cordon as Cordon
    from registry_core.models.status import Liveness as Liveness
    from registry_core.models.status import NodeHealth as NodeHealth
    from registry_core.models.status import Scheduling as Scheduling
    from registry_core.query.conditions import Failing as Failing
    from registry_core.query.conditions import GpuDemand as GpuDemand
    from registry_core.query.node_query import NodeOrder as NodeOrder
    from registry_core.query.node_query import NodePage as NodePage
    from registry_core.query.node_query import NodeQuery as NodeQuery
    from registry_core.rules.health import HealthThresholds as HealthThresholds
    from registry_core.storage.sealing import KeyRing as KeyRing
    from registry_core.storage.sealing import SealingKey as SealingKey
    from registry_core.version import __version__ as __version__


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
