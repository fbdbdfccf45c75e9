"""The registry leaves the records that a caller passes alone: they hold afterwards what they held before."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Optional

import pytest

from registry_core import Gpu, Node, NodeCapabilities, NodeRegistry


def holds_a_dict(record: object) -> bool:
    """Whether somebody asked for its `__dict__`: from then on it has one, and the collector follows it."""
    return any(type(held) is dict for held in gc.get_referents(record))


@pytest.mark.parametrize("name", [None, "nodes.json", "nodes.db"])
def test_no_record_of_a_caller_gets_a_dict(tmp_path: Path, name: Optional[str]) -> None:
    gpu = Gpu("NVIDIA", "H100", 80.0)
    nodes = [
        Node("192.0.2.1", id=f"node-{number}", capabilities=NodeCapabilities(cpu_cores=8, gpus=(gpu,)))
        for number in range(20)
    ]
    if holds_a_dict(nodes[0]):
        pytest.skip("this version of Python gives each object a dict of its own from the start")
    with NodeRegistry(None if name is None else tmp_path / name) as registry:
        for _ in range(2):
            with registry.batch():
                for node in nodes:
                    registry.register_node(node)
        registry.update_node_health("node-1", 1.0, 2.0, 3.0)
        registry.update_node_reputation("node-1", True)
        registry.admin.cordon("node-2", reason="x", actor="y")
        registry.list_nodes(min_capabilities=NodeCapabilities(cpu_cores=4))
        registry.deregister_node("node-3")
        registry.register_node(nodes[3])
    records = [*nodes, *(node.capabilities for node in nodes), gpu]
    assert [record for record in records if holds_a_dict(record)] == []
