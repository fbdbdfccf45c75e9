"""What the core's tests are built with: nodes, records."""

from __future__ import annotations

from typing import Any

from registry_core.models.columns import columns_of
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.storage.store import Put
from registry_core.testing import START


def a_node(number: int = 1, **fields: Any) -> Node:
    """A node with an id and a description that follow from `number`."""
    fields.setdefault("id", f"node-{number}")
    fields.setdefault("ip_address", f"10.0.{number // 250}.{number % 250 + 1}")
    fields.setdefault("capabilities", NodeCapabilities(cpu_cores=4, memory_gb=16.0, storage_gb=500.0))
    return Node(**fields)


def a_put(number: int = 1, **fields: Any) -> Put:
    """The change that keeps `a_node(number)`."""
    record = NodeRecord(a_node(number, registered_at=START, reputation=0.25, **fields), sequence=number)
    return Put(record, columns_of(record))
