"""The durable record of one node as stores keep it. Callers get a `Node`; the JSON form is `storage.record_codec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.reputation import Evidence

__all__ = ["NodeRecord"]


@dataclass(frozen=True)
class NodeRecord:
    """One node as a store keeps it.

    `node` has every durable field: description, score, admission, scheduling, `registered_at`, and of liveness only
    `left`; its `health` has no meaning (samples are stored separately). `sequence` is the order of registration: it
    rises and is never used twice. `interval_seconds` is the node's report interval. `host_state` belongs to the program
    that runs the registry (JSON values: a coordinator stores generation and machine hint there) and is never part of a
    `Node`. `history` is the part of the reputation beside `evidence` (JSON values, see
    `rules.reputation.stored_evidence`). `wallet_proof` has the `wallet_address` that the node proved and its
    `signature`; it counts only while the node has that wallet. `unknown` holds nested fields that a newer version
    wrote, in the shape of the record, so that they are not lost when this version writes the record.
    """

    node: Node
    sequence: int
    evidence: Mapping[str, Evidence] = field(default_factory=FrozenMap)
    interval_seconds: Optional[float] = None
    host_state: Mapping[str, Any] = field(default_factory=FrozenMap)
    history: Mapping[str, Any] = field(default_factory=FrozenMap)
    unknown: Mapping[str, Any] = field(default_factory=FrozenMap)
    wallet_proof: Mapping[str, str] = field(default_factory=FrozenMap)
