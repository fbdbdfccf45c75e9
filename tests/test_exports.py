"""Public means listed; importing does nothing and loads nothing heavy."""

from __future__ import annotations

import ast
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
        "NotSupportedError", "ReadOnlyError", "Registry", "RegistryClosedError", "RegistryError", "Reporting",
        "Reputation",
        "Scheduling", "SealedStoreError", "SealingKey", "StoreError", "StoreInUseError", "UnknownNodeError",
        "UnsupportedSchemaError", "ValidationError", "__version__",
    }  # fmt: skip


def test_type_checkers_find_each_name_in_the_module_that_it_is_fetched_from() -> None:
    tree = ast.parse(Path(str(registry_core.__file__)).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    told = {
        alias.asname: node.module
        for node in imports
        for alias in node.names
        if str(node.module).startswith("registry_core.")
    }
    assert told == {name: f"registry_core.{module}" for name, module in registry_core._MODULE_OF.items()}


def test_an_unlisted_name_is_an_attribute_error() -> None:
    assert not hasattr(registry_core, "no_such_name")


def test_importing_the_package_and_the_records_loads_nothing_heavy() -> None:
    loaded = loaded_by("import registry_core; from registry_core import Node, NodeCapabilities, NodeHealth, Gpu")
    assert loaded & HEAVY.keys() == set()


def test_a_registry_in_memory_or_json_loads_no_sqlite_and_bitmaps_only_when_it_is_asked(tmp_path: Path) -> None:
    unasked = (
        f"from registry_core import Node, NodeRegistry; r = NodeRegistry({str(tmp_path / 'nodes.json')!r}); "
        "r.register_node(Node('10.0.0.1', id='a')); r.update_node_health('a', 1.0); r.get_node('a')"
    )
    needed = {"uuid", "ipaddress", "msgspec"}  # for an id, for an address, and to write the file
    assert loaded_by(f"{unasked}; r.close()") & (HEAVY.keys() - needed) == set()
    assert loaded_by(f"{unasked}; r.list_nodes(); r.close()") & (HEAVY.keys() - needed) == {"pyroaring"}


def test_the_embedded_registry_keeps_the_protocol_of_local_ones() -> None:
    registry: registry_core.LocalRegistry = registry_core.NodeRegistry()  # the type checker holds it
    registry.close()


def test_the_public_import_path_names_the_same_classes() -> None:
    from duxnet.registry.models.node import Node, NodeCapabilities
    from duxnet.registry.services.node_registry import NodeRegistry

    assert Node is registry_core.Node
    assert NodeCapabilities is registry_core.NodeCapabilities
    assert NodeRegistry is registry_core.NodeRegistry
