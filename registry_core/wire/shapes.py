"""The bodies of requests and responses under `/v1`, as msgspec reads and writes them.

Unknown fields are ignored, and fields of `/v1` are added but never removed. A node has the shape of `models.encoding`,
so here it is a plain map. Durations are in seconds; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Optional

import msgspec
from msgspec import Meta

__all__ = [
    "AdmissionChange",
    "CordonOrder",
    "CoordinatorInfo",
    "Gap",
    "GaugeSummaries",
    "GaugeSummary",
    "Heartbeat",
    "HeartbeatReply",
    "Registration",
    "RegistrationReply",
    "SuccessionLink",
    "TaskOutcome",
    "WalletProof",
    "Withheld",
]

PROTOCOL = 2
"""The protocol of this version. A coordinator also accepts requests of the previous protocol and responds in it.
A registration, or a coordinator, that names no protocol uses protocol 1."""
MAX_REGISTRATION_BYTES = 64 * 1024
MAX_HEARTBEAT_BYTES = 4 * 1024
SHORTEST_INTERVAL_SECONDS = 0.05
LONGEST_INTERVAL_SECONDS = 900.0
LAST_GENERATION = 2**53 - 1
"""The largest integer that every JSON parser reads exactly. After it a node starts again at 1, and a coordinator
accepts any generation."""

Load = Annotated[float, Meta(ge=0, le=1_000_000)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Whole = Annotated[int, Meta(ge=0, le=LAST_GENERATION)]
Interval = Annotated[float, Meta(ge=SHORTEST_INTERVAL_SECONDS, le=LONGEST_INTERVAL_SECONDS)]
Duration = Annotated[float, Meta(ge=0, le=10 * 366 * 86400)]
LongText = Annotated[str, Meta(max_length=1024)]
SessionToken = Annotated[str, Meta(max_length=512, pattern="^[!-~]*$")]
Text = Annotated[str, Meta(max_length=256)]


class SuccessionLink(msgspec.Struct, frozen=True):
    """One change of the node's key, signed by both keys."""

    node_id: Text
    old_key: Text
    new_key: Text
    old_signature: Text
    new_signature: Text


class Registration(msgspec.Struct, frozen=True):
    """A node's description of itself. `generation` rises with every registration and is stored by both sides.

    `machine_hint` distinguishes a machine from a copy of it, `boot_id` one boot, or start of the agent, from the next.
    `interval_seconds` is how often the node intends to report. `first_public_key` and `succession` are for a node
    whose key was replaced. `protocol` is the node's protocol.
    """

    node: dict[str, Any]
    generation: Whole = 0
    interval_seconds: Interval = 15.0
    machine_hint: Text = ""
    boot_id: Text = ""
    join_token: Text = ""
    first_public_key: Text = ""
    succession: Annotated[tuple[SuccessionLink, ...], Meta(max_length=16)] = ()
    protocol: Whole = 1


class RegistrationReply(msgspec.Struct):
    """The response to a registration. `session` is the token that heartbeats carry.

    `protocol` is the protocol of this response, which is the node's.
    """

    node_id: Text
    generation: Whole
    session: SessionToken
    session_seconds: Duration
    interval_seconds: Interval
    admission: Text
    admission_reason: LongText
    coordinator: Text
    degraded: bool = False
    protocol: Whole = 1


class GaugeSummary(msgspec.Struct, frozen=True):
    """One gauge over a gap."""

    min: float
    mean: float
    max: float


class GaugeSummaries(msgspec.Struct, frozen=True, omit_defaults=True):
    """A summary of each gauge that could be read during the gap."""

    load_average: Optional[GaugeSummary] = None
    memory_usage: Optional[GaugeSummary] = None
    disk_usage: Optional[GaugeSummary] = None


class Gap(msgspec.Struct, frozen=True, rename={"begin": "from"}):
    """What a node measured while it could not report."""

    begin: Text
    to: Text
    samples: Whole
    reason: Text = ""
    gauges: GaugeSummaries = GaugeSummaries()


class Heartbeat(msgspec.Struct, frozen=True):
    """A report that the node is alive, with the newest sample. `sequence` rises within a session."""

    sequence: Whole = 0
    load_average: Optional[Load] = None
    memory_usage: Optional[Percent] = None
    disk_usage: Optional[Percent] = None
    gap: Optional[Gap] = None


class Withheld(msgspec.Struct, frozen=True):
    """One reason why a node that reports gets no work: the failed condition, and how to fix it."""

    condition: Text
    found: LongText
    remedy: LongText


class HeartbeatReply(msgspec.Struct):
    """The response to a heartbeat. `interval_seconds` is the longest time until the next one.

    `withheld`: why the node gets no work, whatever it reports; absent when there is no such reason.
    """

    interval_seconds: Interval
    health: dict[str, Any]
    degraded: bool = False
    withheld: Annotated[list[Withheld], Meta(max_length=64)] = []


class TaskOutcome(msgspec.Struct, frozen=True):
    """Whether one task on the node succeeded; the other fields are those of `Registry.update_node_reputation`."""

    success: bool
    task_id: Optional[str] = None
    dimension: str = "correctness"
    weight: float = 1.0
    rater: Optional[str] = None


class AdmissionChange(msgspec.Struct, frozen=True):
    """An operator's decision: approved, probation, suspended or banned, with a reason for the last two."""

    admission: Text
    reason: Text = ""


class CordonOrder(msgspec.Struct, frozen=True):
    """Give the node no new work: why, and until when (absent: until the cordon is lifted)."""

    reason: Text = ""
    until: Optional[Text] = None


class WalletProof(msgspec.Struct, frozen=True):
    """The signature of the node's wallet over the message that `duxnet wallet message` prints."""

    signature: Text


class CoordinatorInfo(msgspec.Struct):
    """The coordinator's identity. Nodes pin `id` and sign for it; `public_key` is its Ed25519 key in base64.

    `protocol` is the newest that it supports; it also supports the previous one.
    """

    id: Text
    public_key: Text
    version: Text
    join: Text
    public_network: bool
    interval_seconds: Interval
    retention_seconds: Duration
    degraded: bool
    protocol: Whole = 1
