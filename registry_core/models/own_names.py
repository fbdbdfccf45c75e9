"""The names that are reserved for the registry: no field that a node adds may have one of them.

Unknown fields of a node are in `extra`, in files and on the network, so they cannot collide with fields of the
registry. The names are not allowed there either, because readers may see both side by side.
"""

from __future__ import annotations

__all__ = ["DERIVED_NAMES", "HISTORY_NAMES", "OWN_NAMES"]

RECORD_NAMES = (
    "ip_address", "wallet_address", "capabilities", "id", "addresses", "port", "hostname", "os_version",
    "agent_version", "public_key", "tags", "health", "reputation", "registered_at", "admission", "admission_reason",
    "liveness", "scheduling", "cordon", "extra", "cpu_cores", "memory_gb", "storage_gb", "gpu_enabled", "gpus",
    "cpu_quota", "host_cpus", "physical_cores", "cpu_model", "architecture", "kernel", "load_average", "memory_usage",
    "disk_usage", "last_heartbeat", "conditions", "node", "sequence", "evidence", "interval_seconds", "host_state",
    "history", "unknown", "wallet_proof", "score", "posterior_mean", "standing", "reasons", "node_id", "cordoned",
    "cordoned_until", "left", "labels",
)  # fmt: skip
"""The fields of records and columns, which import this module; a test compares them."""

DERIVED_NAMES = ("is_healthy", "is_ready")
"""Fields that follow from others: written for convenience, never read."""

HISTORY_NAMES = (
    "first_seen_seconds", "settled", "open_batch", "open_at_seconds", "verified_tasks", "performance", "availability",
    "observed_hours", "uptime", "window_hours", "window_intact", "away_hours", "excused_hours",
    "removed_at_hours", "ratings", "raters", "suspensions", "suspended_at_seconds", "failed_since_standing",
    "standing_by_operator", "tasks",
)  # fmt: skip
"""The fields of `rules.reputation.EvidenceState`, which this layer cannot import; a test compares them."""

REQUEST_NAMES = (
    "generation", "machine_hint", "boot_id", "join_token", "first_public_key", "succession", "session",
    "session_seconds", "coordinator", "managed_by", "protocol",
)  # fmt: skip
"""Fields of registrations and their responses beside the node, and `managed_by`."""

OTHER_NAMES = ("last_gap", "degraded", "damaged", "withheld", "verified", "correctness", "schema")
"""Fields beside a node in responses and files, and names that look like a judgement of the registry."""

OWN_NAMES = frozenset((*RECORD_NAMES, *DERIVED_NAMES, *HISTORY_NAMES, *REQUEST_NAMES, *OTHER_NAMES))
"""Every name that the registry uses or used: in records, columns, evidence, reputation, requests and responses."""
