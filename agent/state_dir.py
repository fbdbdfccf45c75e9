"""The agent's folder: one agent at a time, and whether the folder still lies on the machine where it was made.

The identity itself is `registry_core.identity`; the embedded registry has its own lock besides.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError

__all__ = ["AgentRunningError", "StateDir", "holder_of", "holder_text"]

LOCK_FILE = "agent.lock"
MACHINE_FILE = "machine.json"
REGISTRY_FILE = "nodes.json"

_ATTEMPTS = 5


class AgentRunningError(StoreError):
    """Another agent uses this folder. `holder_pid` is its process id where known."""

    def __init__(self, path: str, holder_pid: Optional[int]) -> None:
        super().__init__(path, f"{holder_text(holder_pid)}, or give --state-dir")
        self.holder_pid = holder_pid


class StateDir:
    """Holds the lock from its making until `close`. Raises AgentRunningError, StoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(str(path), f"cannot be used as a state directory: {_reason(error)}") from None
        try:
            self._hold()
        except BlockingIOError:
            holder = _pid_in(self._lock)
            os.close(self._lock)
            raise AgentRunningError(str(path), holder) from None
        except OSError as error:
            os.close(self._lock)
            raise StoreError(str(path / LOCK_FILE), f"cannot be locked: {_reason(error)}") from None

    def _hold(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # an agent, or somebody who looks for one at this instant (`holder_of`)
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(0.05)
        with suppress(OSError):  # on a full disk the holder is not known, and holds all the same
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def moved_from(self, machine_hint: Optional[str]) -> Optional[str]:
        """The hint of the machine where this folder was used last, when that is another one than `machine_hint`.

        Remembers the present one. A machine that has no hint (no machine-id) is never said to be another one.
        """
        if not machine_hint:
            return None
        path = self.path / MACHINE_FILE
        known = _hint_in(path)
        if known == machine_hint:
            return None
        try:
            replace_file(path, json.dumps({"machine_hint": machine_hint, "before": known}).encode() + b"\n")
        except OSError:  # a full disk: it is said again at the next start
            return known
        return known

    def close(self) -> None:
        """Let another agent use the folder."""
        os.close(self._lock)


def holder_of(path: Path) -> Optional[int]:
    """The process id in the lock file when an agent holds it now; None when none does, or it cannot be read."""
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(descriptor)
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(descriptor)


def holder_text(holder_pid: Optional[int]) -> str:
    """Who holds the lock, for people, and what to do: also where it has ended and the kernel does not let it go."""
    if holder_pid is None:
        return "another process is an agent that uses this state directory; stop it"
    if _is_ending(holder_pid):
        return (
            f"process {holder_pid}, an agent, has ended, but the kernel still holds it, and its lock, in a disk or a "
            "mount that does not answer; wait for that, or restart the machine"
        )
    return f"process {holder_pid} is an agent that uses this state directory; stop it"


def _is_ending(pid: int) -> bool:
    """A zombie whose lock is still held: one of its threads waits where no signal reaches it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put `content` at `path` in one step, so that a reader sees the old file or the new one. Not durable."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # what the umask took away: a unit's takes all from others
            file.write(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _pid_in(descriptor: int) -> Optional[int]:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _hint_in(path: Path) -> Optional[str]:
    try:
        plain = json.loads(path.read_bytes()[:4096])
    except (OSError, ValueError, RecursionError):  # absent or damaged: this is the first machine that we know of
        return None
    hint = plain.get("machine_hint") if isinstance(plain, dict) else None
    return hint if isinstance(hint, str) else None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
