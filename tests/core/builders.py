"""What the core's tests are built with: a clock that is moved by hand, nodes, records."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from registry_core.models.columns import columns_of
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.storage.store import Put

START = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall = START

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.wall

    def move(self, seconds: float) -> None:
        """Time passes, by both clocks."""
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)

    def set_wall(self, wall: datetime) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.wall = wall


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
