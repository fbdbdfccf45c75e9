"""What the registry is measured beside, defined once: a scan of mutable objects, a scan of ready-made records,
SQLite with a covering index. Each does only what its kind must do for the same answer.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

__all__ = ["CoveringIndex", "Demand", "ScannedObjects", "ScannedRecords"]


@dataclass
class Demand:
    """What all baselines are asked: the best nodes that are ready and have at least this."""

    cpu_cores: int = 0
    memory_gb: float = 0.0
    storage_gb: float = 0.0
    min_reputation: float = 0.0
    only_ready: bool = True
    limit: int = 20


@dataclass
class MutableNode:
    """The record of the usual registry: one object a node, changed in place."""

    id: str
    cpu_cores: int
    memory_gb: float
    storage_gb: float
    reputation: float
    ready: bool


class ScannedObjects:
    """All nodes looked at, those that fit sorted: what a registry does that keeps a list of objects."""

    def __init__(self, rows: list[tuple[str, int, float, float, float, bool]]) -> None:
        self._nodes = [MutableNode(*row) for row in rows]

    def ids(self, demand: Demand) -> list[str]:
        found = [
            node
            for node in self._nodes
            if (node.ready or not demand.only_ready)
            and node.cpu_cores >= demand.cpu_cores
            and node.memory_gb >= demand.memory_gb
            and node.storage_gb >= demand.storage_gb
            and node.reputation >= demand.min_reputation
        ]
        found.sort(key=lambda node: -node.reputation)
        return [node.id for node in found[: demand.limit]]


class ScannedRecords:
    """A scan and sort of ready-made records, handed out as they are: the least that an unlimited listing costs."""

    def __init__(self, records: list[object]) -> None:
        self._records = records

    def listed(self, min_reputation: float) -> list[object]:
        found = [record for record in self._records if record.is_ready and record.reputation >= min_reputation]  # type: ignore[attr-defined]  # any record
        found.sort(key=lambda record: -record.reputation)  # type: ignore[attr-defined]  # the same
        return found


class CoveringIndex:
    """SQLite, in memory, answering from one index that holds every column that the question names."""

    def __init__(self, rows: list[tuple[str, int, float, float, float, bool]]) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("CREATE TABLE n (id TEXT, cpu INT, memory REAL, storage REAL, score REAL, ready INT)")
        self._connection.executemany("INSERT INTO n VALUES (?,?,?,?,?,?)", rows)
        self._connection.execute("CREATE INDEX best ON n (ready, score DESC, cpu, memory, storage, id)")
        self._connection.execute("ANALYZE")

    def ids(self, demand: Demand) -> list[str]:
        found = self._connection.execute(
            "SELECT id FROM n WHERE ready = 1 AND score >= ? AND cpu >= ? AND memory >= ? AND storage >= ?"
            " ORDER BY score DESC LIMIT ?",
            (demand.min_reputation, demand.cpu_cores, demand.memory_gb, demand.storage_gb, demand.limit),
        )
        return [row[0] for row in found]
