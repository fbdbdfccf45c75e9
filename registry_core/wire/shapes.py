"""The bodies of requests and answers under `/v1`, as msgspec reads and writes them.

Unknown fields are ignored and `/v1` only grows. A node travels in the one shape of `models.encoding`, so here it
is a plain map. Durations are seconds, times RFC 3339 in UTC.
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
"""What this version speaks. A coordinator also takes what nodes of the protocol before it send, and answers as they
expect. A registration, or a coordinator, that names no protocol speaks protocol 1."""
MAX_REGISTRATION_BYTES = 64 * 1024
MAX_HEARTBEAT_BYTES = 4 * 1024
SHORTEST_INTERVAL_SECONDS = 0.05
LONGEST_INTERVAL_SECONDS = 900.0
LAST_GENERATION = 2**53 - 1
"""The largest that JSON carries everywhere. After it a node begins anew, and a coordinator takes any generation."""

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
    """What a node says about itself. `generation` rises with every registration and is kept by both sides.

    `machine_hint` tells one machine from a copy of it, `boot_id` one boot, or start of the agent, from the next.
    `interval_seconds` is how often the node means to report. `first_public_key` and `succession` are for a node whose
    key was replaced. `protocol` is what the node speaks.
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
    """The coordinator's answer to a registration. `session` is the token that heartbeats carry.

    `protocol` is the one that this answer follows: the node's own.
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
    """Of each gauge that could be read during the gap."""

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
    """A sign of life with the newest sample. `sequence` rises within a session."""

    sequence: Whole = 0
    load_average: Optional[Load] = None
    memory_usage: Optional[Percent] = None
    disk_usage: Optional[Percent] = None
    gap: Optional[Gap] = None


class Withheld(msgspec.Struct, frozen=True):
    """Why a node that reports is given no work: what stands against it, and who can mend that."""

    condition: Text
    found: LongText
    remedy: LongText


class HeartbeatReply(msgspec.Struct):
    """What follows from it. `interval_seconds` is when the next one is wanted at the latest.

    `withheld`: why the node gets no work whatever it reports; absent where nothing stands against it.
    """

    interval_seconds: Interval
    health: dict[str, Any]
    degraded: bool = False
    withheld: Annotated[list[Withheld], Meta(max_length=64)] = []


class TaskOutcome(msgspec.Struct, frozen=True):
    """Whether one task on the node succeeded; the rest as in `Registry.update_node_reputation`."""

    success: bool
    task_id: Optional[str] = None
    dimension: str = "correctness"
    weight: float = 1.0
    rater: Optional[str] = None


class AdmissionChange(msgspec.Struct, frozen=True):
    """What an operator decides: approved, probation, suspended or banned; with a reason where it restricts."""

    admission: Text
    reason: Text = ""


class CordonOrder(msgspec.Struct, frozen=True):
    """No new work for the node, why, and until when (absent: until it is lifted)."""

    reason: Text = ""
    until: Optional[Text] = None


class WalletProof(msgspec.Struct, frozen=True):
    """The signature of the node's wallet over the message that `duxnet wallet message` prints."""

    signature: Text


class CoordinatorInfo(msgspec.Struct):
    """Who answers here. `id` is what nodes pin and sign for; `public_key` is its Ed25519 key in base64.

    `protocol` is the newest that it speaks; it speaks the one before it, too.
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
