"""The status file: what this machine's agent is doing, for `duxnet status` and `nodes list`. No secrets, no fsync.

It is in the runtime directory and is replaced atomically at each report. A stopped agent leaves it with the state
`stopped`; a killed one leaves it with the id of a process that no longer exists.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from agent.sampler import Sample
from agent.state_dir import LOCK_FILE, holder_of
from registry_core.errors import StoreError
from registry_core.files.atomic import replace_file
from registry_core.files.opening import read_regular
from registry_core.models.times import time_to_text

__all__ = [
    "NO_WORK",
    "AgentStatus",
    "FoundStatus",
    "StatusFile",
    "find_status",
    "local_folder",
    "read_status",
    "status_candidates",
]

SCHEMA = "duxnet.agent-status/1.0"  # any minor version can be read
NO_WORK = "this node gets no work: "
"""The prefix of a warning that states why the registry gives this node no work."""
# The folders of duxnet-agent.service. The second is a link to a folder that only root and the service may read.
UNIT_RUNTIME_FOLDER = Path("/run/duxnet-agent")
UNIT_STATE_FOLDER = Path("/var/lib/duxnet-agent")
LARGEST_STATUS_BYTES = 256 * 1024


@dataclass(frozen=True)
class AgentStatus:
    """The full status of an agent at one moment, as shown to users and stored in the file.

    `registry` is a path or an address. `problem` is why the newest report could not be delivered, or None. `sample`
    and `conditions` are the newest; `capabilities` is what is offered. `StatusFile` sets the fields from `pid` on,
    which identify the writer and the time.
    """

    state: str
    node_id: str
    hostname: str
    offer: str
    registry: str
    state_dir: str
    interval_seconds: float
    capabilities: Mapping[str, Any]
    sample: Optional[Sample] = None
    conditions: Optional[Mapping[str, str]] = None
    problem: Optional[str] = None
    probe_errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reports_delivered: int = 0
    reports_failed: int = 0
    pid: int = 0
    process_start_ticks: Optional[int] = None
    boot_id: str = ""
    written_at: Optional[str] = None
    written_boottime_seconds: float = 0.0

    def who(self) -> str:
        """`n1abcdefghij… on host`."""
        return f"{self.node_id[:12]}… on {self.hostname or 'this machine'}"

    def newest(self) -> str:
        """The newest sample, or the problem."""
        if self.problem is not None:
            return f"NOT REPORTING: {self.problem}"
        return "no sample yet" if self.sample is None else str(self.sample)

    def line(self) -> str:
        """The node, what it offers, and the newest sample or the problem."""
        return f"{self.who()} · {self.offer} · {self.newest()}"

    def to_plain(self) -> dict[str, Any]:
        """The JSON map."""
        return {"schema": SCHEMA, **asdict(self)}


class StatusFile:
    """The file of the agent that keeps its state in `state_dir`."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str]) -> None:
        self.path = status_candidates(state_dir, environ)[0]
        self._shared = self.path.parent != state_dir

    def write(self, status: AgentStatus) -> None:
        """Replace the file. Raises StoreError, OSError."""
        written = replace(
            status,
            pid=os.getpid(),
            process_start_ticks=_start_ticks(os.getpid()),
            boot_id=_boot_id(),
            written_at=time_to_text(datetime.now(timezone.utc)),
            written_boottime_seconds=round(time.clock_gettime(time.CLOCK_BOOTTIME), 3),
        )
        if self._shared:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = 0o644 if self._shared else 0o600
        replace_file(self.path, json.dumps(written.to_plain()).encode() + b"\n", mode, durable=False)


def status_candidates(state_dir: Path, environ: Mapping[str, str]) -> list[Path]:
    """The possible paths of the status of the agent with this state directory, the most likely first.

    A unit has its own runtime directory; all agents of a user share the user's, hence the digest.
    """
    unit = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if unit:
        return [Path(unit) / "agent.json"]
    if os.path.realpath(state_dir) == os.path.realpath(UNIT_STATE_FOLDER):
        return [UNIT_RUNTIME_FOLDER / "agent.json"]
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:12]
    user = environ.get("XDG_RUNTIME_DIR", "")
    shared = [Path(user) / "duxnet" / f"agent-{digest}.json"] if user.startswith("/") and Path(user).is_dir() else []
    return [*shared, state_dir / "agent.json"]


@dataclass(frozen=True)
class FoundStatus:
    """A status that was read, its age, and whether its writer is still running."""

    path: Path
    status: AgentStatus
    age_seconds: Optional[float]
    is_running: bool

    @property
    def is_fresh(self) -> bool:
        """True if a running process wrote it within the last three intervals (plus a second)."""
        interval = self.status.interval_seconds
        return self.is_running and self.age_seconds is not None and self.age_seconds <= 3 * interval + 1


def read_status(path: Path) -> Optional[FoundStatus]:
    """The status in `path`; None if there is none or it is not valid: any user may have written the file."""
    import msgspec  # imported here, because an agent with an embedded registry does not need it

    try:
        plain = msgspec.json.decode(read_regular(path, LARGEST_STATUS_BYTES, follow=False))
        if not isinstance(plain, dict) or not str(plain.get("schema", "")).startswith(SCHEMA[:-1]):
            return None
        status = msgspec.convert(plain, AgentStatus)
    except (OSError, StoreError, msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: no UTF-8
        return None
    same_boot = status.boot_id == _boot_id()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - status.written_boottime_seconds if same_boot else None
    ticks = status.process_start_ticks
    running = same_boot and status.state != "stopped" and ticks is not None and _start_ticks(status.pid) == ticks
    return FoundStatus(path, status, age, running)


def _start_ticks(pid: int) -> Optional[int]:
    """When a process started, in clock ticks since boot (proc(5), field 22), which differs if an id is reused.

    None if it has ended, even if its parent has not yet collected its exit code (a zombie).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def local_folder(configured: Path, environ: Mapping[str, str]) -> Path:
    """The folder of this machine's agent, for commands that inspect it: `configured` or the service's.

    It is the service's if the service runs and no agent uses `configured`, or if `configured` was never used.
    """
    if "STATE_DIRECTORY" in environ or holder_of(configured) is not None:
        return configured
    runs = os.path.exists(UNIT_RUNTIME_FOLDER / "agent.json")  # noqa: PTH110 - False also if access is denied
    unused = not os.path.exists(configured / LOCK_FILE) and UNIT_STATE_FOLDER.is_symlink()  # noqa: PTH110 - as above
    return UNIT_STATE_FOLDER if runs or unused else configured


def find_status(state_dir: Path, environ: Mapping[str, str]) -> Optional[FoundStatus]:
    """The status of the agent that uses or last used `state_dir`, if there is one."""
    for candidate in status_candidates(state_dir, environ):
        found = read_status(candidate)
        if found is not None and os.path.realpath(found.status.state_dir) == os.path.realpath(state_dir):
            return found
    return None
