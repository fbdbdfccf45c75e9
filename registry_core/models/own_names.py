"""The names that are the registry's own: no field that a node adds of its own may have one of them.

Two owners never share a map: what a node sent and this version does not know lies under `extra`, in files and on the
wire, so that no name can meet one of ours. These names are refused there all the same, for the sake of everybody who
reads both side by side. Here: the names. Not here: what is done with a field that has one (`node`, `encoding`).
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
"""Answers that follow from other fields: written for readers, never read."""

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
"""What registrations and their answers carry beside the node, and what says who keeps it."""

OTHER_NAMES = ("last_gap", "degraded", "damaged", "withheld", "verified", "correctness", "schema")
"""What stands beside a node in answers and files, or would be read as the registry's judgement."""

OWN_NAMES = frozenset((*RECORD_NAMES, *DERIVED_NAMES, *HISTORY_NAMES, *REQUEST_NAMES, *OTHER_NAMES))
"""Every name that is or was the registry's: of records, columns, evidence, reputation, requests and answers."""
