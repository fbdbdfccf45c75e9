"""The examples of the public description, word for word; only the path is another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import registry_core

DESCRIPTION = """
from duxnet.registry.models.node import Node, NodeCapabilities
from duxnet.registry.services.node_registry import NodeRegistry

# Create a node registry
registry = NodeRegistry(persistence_path='/var/lib/duxnet/nodes.json')

# Create a node
node = Node(
    wallet_address='your_wallet_address',
    ip_address='192.168.1.100',
    capabilities=NodeCapabilities(
        cpu_cores=4,
        memory_gb=16.0,
        storage_gb=500.0,
        gpu_enabled=True
    )
)

# Register the node
node_id = registry.register_node(node)

# Update node health metrics
registry.update_node_health(
    node_id, 
    load_average=1.5, 
    memory_usage=50.0, 
    disk_usage=30.0
)

# List all healthy nodes with minimum capabilities
min_capabilities = NodeCapabilities(
    cpu_cores=4,
    memory_gb=8.0,
    storage_gb=250.0
)

suitable_nodes = registry.list_nodes(
    min_reputation=3.0,  # Minimum reputation score
    only_healthy=True,   # Only return healthy nodes
    min_capabilities=min_capabilities
)
"""  # noqa: W291 - word for word

ISSUE = """
from duxnet.registry.models.node import Node, NodeCapabilities
from duxnet.registry.services.node_registry import NodeRegistry
registry = NodeRegistry(persistence_path='nodes.json')
node = Node(wallet_address='your_wallet_address', ip_address='192.168.1.100',
            capabilities=NodeCapabilities(cpu_cores=4, memory_gb=16.0, storage_gb=500.0, gpu_enabled=True))
node_id = registry.register_node(node)
registry.update_node_health(node_id, load_average=1.5, memory_usage=50.0, disk_usage=30.0)
for _ in range(10): registry.update_node_reputation(node_id, task_success=True)   # a new node has no reputation yet
suitable = registry.list_nodes(min_reputation=3.0, only_healthy=True,
                               min_capabilities=NodeCapabilities(cpu_cores=4, memory_gb=8.0, storage_gb=250.0))
"""


def run(program: str, folder: Path, suffix: str) -> dict[str, object]:
    moved = re.sub(r"persistence_path='[^']*'", f"persistence_path={str(folder / ('nodes' + suffix))!r}", program)
    names: dict[str, object] = {}
    exec(compile(moved, "the description", "exec"), names)
    return names


def test_the_description_runs_and_a_new_node_has_no_reputation_yet(tmp_path: Path) -> None:
    names = run(DESCRIPTION, tmp_path, ".json")
    assert names["suitable_nodes"] == []


@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_the_example_with_ten_tasks_lists_the_node(tmp_path: Path, suffix: str) -> None:
    names = run(ISSUE, tmp_path, suffix)
    suitable = names["suitable"]
    assert isinstance(suitable, list)
    assert [node.id for node in suitable] == [names["node_id"]]


def test_the_examples_of_the_page_on_embedding_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, object] = {"running": False, "nodes": [registry_core.Node("10.0.0.1")]}
    exec("import asyncio, time\nfrom registry_core import *", names)
    exec(blocks[0], names)
    names["registry"] = registry_core.NodeRegistry("others.db")
    exec(blocks[1], names)
    names["registry"].close()  # type: ignore[attr-defined]  # the registry
    for block in blocks[2:]:
        exec(block, names)
    assert names["registry"].count_nodes() == 1  # type: ignore[attr-defined]  # the one of the page
    names["registry"].close()  # type: ignore[attr-defined]  # the same
