"""The names that are the registry's own: no field that a node adds of its own may have one of them.

Two owners never share a map: what a node sent and this version does not know lies under `extra`, in files and on the
wire, so that no name can meet one of ours. These names are refused there all the same, for the sake of everybody who
reads both side by side. Here: the names. Not here: what is done with a field that has one (`node`, `encoding`).
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

__all__ = ["DERIVED_NAMES", "HISTORY_NAMES", "own_names"]

DERIVED_NAMES = ("is_healthy", "is_ready")
"""Answers that follow from other fields: written for readers, never read."""

HISTORY_NAMES = (
    "first_seen_seconds",
    "settled",
    "open_batch",
    "open_at_seconds",
    "verified_tasks",
    "performance",
    "availability",
    "observed_hours",
    "uptime",
    "window_hours",
    "window_intact",
    "ratings",
    "raters",
    "suspensions",
    "suspended_at_seconds",
    "failed_since_standing",
    "standing_by_operator",
    "tasks",
)
"""The fields of `rules.reputation.EvidenceState`, which this layer cannot import; a test compares them."""

REQUEST_NAMES = (
    "generation",
    "machine_hint",
    "boot_id",
    "join_token",
    "first_public_key",
    "succession",
    "session",
    "session_seconds",
    "coordinator",
    "managed_by",
    "protocol",
)
"""What registrations and their answers carry beside the node, and what says who keeps it."""

OTHER_NAMES = ("last_gap", "degraded", "damaged", "withheld", "verified", "correctness", "schema")
"""What stands beside a node in answers and files, or would be read as the registry's judgement."""


@lru_cache(maxsize=1)
def own_names() -> frozenset[str]:
    """Every name that is or was the registry's: of records, columns, evidence, reputation, requests and answers."""
    from registry_core.models.columns import Columns
    from registry_core.models.node import Node, NodeCapabilities
    from registry_core.models.record import NodeRecord
    from registry_core.models.reputation import Reputation
    from registry_core.models.status import NodeHealth

    records = (Node, NodeCapabilities, NodeHealth, NodeRecord, Reputation)
    names = {item.name for record in records for item in fields(record)}
    return frozenset(names.union(Columns._fields, DERIVED_NAMES, HISTORY_NAMES, REQUEST_NAMES, OTHER_NAMES))
