"""Public means listed; importing does nothing and loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import registry_core

HEAVY = {  # module: why `import registry_core` and the records must not load it
    "pyroaring": "the probe has no index",
    "msgspec": "the probe writes JSON with the standard library",
    "sqlite3": "2 MiB for a registry that may be a JSON file",
    "cryptography": "20 MiB for keys that a probe does not have",
    "httpx": "the client of a registry elsewhere",
    "pydantic": "settings are the agent's",
    "uuid": "9 ms for ids that are made once",
    "ipaddress": "4 ms, needed when an address is checked",
    "importlib.metadata": "10 ms for a version that is a constant",
    "asyncio": "nothing here is asynchronous",
}


def loaded_by(program: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {program}; print('\\n'.join(sys.modules))"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_every_listed_name_is_there_and_nothing_else_is_listed() -> None:
    for name in registry_core.__all__:
        assert getattr(registry_core, name) is not None, name
    assert set(registry_core.__all__) == {
        "Admission", "Condition", "Conditions", "Cordon", "DamagedStoreError", "Event", "EventKind",
        "EventsCompacted", "Evidence", "Failing", "Gpu", "GpuDemand", "HealthThresholds", "KeyRing", "Liveness",
        "LocalRegistry", "Node", "NodeCapabilities", "NodeHealth", "NodeOrder", "NodePage", "NodeQuery", "NodeRegistry",
        "NotSupportedError", "ReadOnlyError", "Registry", "RegistryClosedError", "RegistryError", "Reputation",
        "Scheduling", "SealedStoreError", "SealingKey", "StoreError", "StoreInUseError", "UnknownNodeError",
        "UnsupportedSchemaError", "ValidationError", "__version__",
    }  # fmt: skip


def test_an_unlisted_name_is_an_attribute_error() -> None:
    assert not hasattr(registry_core, "no_such_name")


def test_importing_the_package_and_the_records_loads_nothing_heavy() -> None:
    loaded = loaded_by("import registry_core; from registry_core import Node, NodeCapabilities, NodeHealth, Gpu")
    assert loaded & HEAVY.keys() == set()


def test_a_small_registry_in_memory_or_json_loads_no_bitmaps_and_no_sqlite(tmp_path: Path) -> None:
    used = "r.register_node(Node('10.0.0.1')); r.list_nodes(); r.close()"
    needed = {"uuid", "ipaddress"}  # for an id and for an address
    program = "from registry_core import Node, NodeRegistry; r = NodeRegistry({}); " + used
    assert loaded_by(program.format("")) & (HEAVY.keys() - needed) == set()
    needed.add("msgspec")  # which writes the file
    assert loaded_by(program.format(repr(str(tmp_path / "nodes.json")))) & (HEAVY.keys() - needed) == set()


def test_the_embedded_registry_keeps_the_protocol_of_local_ones() -> None:
    registry: registry_core.LocalRegistry = registry_core.NodeRegistry()  # the type checker holds it
    registry.close()


def test_the_public_import_path_names_the_same_classes() -> None:
    from duxnet.registry.models.node import Node, NodeCapabilities
    from duxnet.registry.services.node_registry import NodeRegistry

    assert Node is registry_core.Node
    assert NodeCapabilities is registry_core.NodeCapabilities
    assert NodeRegistry is registry_core.NodeRegistry
