"""What the registry keeps of one node, durable and whole: the snapshot's base, its evidence, its place in the order.

Here: the record that stores hold. Not here: what goes out to callers (`node`, `snapshot`), JSON (`storage.records`).
"""

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

    `node` has every durable field: description, score, admission, scheduling, `registered_at`, and of liveness
    only whether it left; its `health` means nothing (samples are soft and kept apart). `sequence` is the order
    of registration: it rises and is never used twice. `interval_seconds` is the node's own report interval.
    `host_state` belongs to whoever runs the registry (JSON values: a coordinator keeps generation and machine
    hint there) and never goes out in a `Node`. `history` is what reputation keeps beside `evidence` (JSON values, see
    `rules.reputation.kept`). `wallet_proof` has the `wallet_address` that the node proved and its `signature`; it
    counts only while the node names that wallet. `unknown` holds nested fields that a newer version wrote, in the
    shape of the record, so that they survive being written by this one.
    """

    node: Node
    sequence: int
    evidence: Mapping[str, Evidence] = field(default_factory=FrozenMap)
    interval_seconds: Optional[float] = None
    host_state: Mapping[str, Any] = field(default_factory=FrozenMap)
    history: Mapping[str, Any] = field(default_factory=FrozenMap)
    unknown: Mapping[str, Any] = field(default_factory=FrozenMap)
    wallet_proof: Mapping[str, str] = field(default_factory=FrozenMap)
