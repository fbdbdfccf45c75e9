"""The agent's state directory: allows one agent at a time and detects that the folder was moved to another machine.

`registry_core.identity` manages the identity in it; the embedded registry has a lock of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError, StoreInUseError, reason_of
from registry_core.files.atomic import replace_file
from registry_core.files.locks import PidLock, pid_of_holder
from registry_core.files.opening import own_folder, read_file

__all__ = ["AgentRunningError", "StateDir", "holder_of", "holder_text"]

LOCK_FILE = "agent.lock"
MACHINE_FILE = "machine.json"
REGISTRY_FILE = "nodes.json"

_LONGEST_LOOK_SECONDS = 0.2  # `holder_of` takes the lock for an instant


class AgentRunningError(StoreError):
    """Another agent uses this folder. `holder_pid` is its process id where known."""

    def __init__(self, path: str, holder_pid: Optional[int]) -> None:
        super().__init__(path, f"{holder_text(holder_pid)}, or choose another one with --state-dir")
        self.holder_pid = holder_pid


class StateDir:
    """Holds the lock from construction until `close`. Raises AgentRunningError, StoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        own_folder(path, "a state directory")
        try:
            self._lock = PidLock(path / LOCK_FILE, path, wait_seconds=_LONGEST_LOOK_SECONDS)
        except StoreInUseError as error:
            raise AgentRunningError(str(path), error.holder_pid) from None
        except StoreError as error:
            if isinstance(error.__cause__, OSError):  # no file can be created in the folder
                why = f"cannot be used as a state directory: {reason_of(error.__cause__)}"
                raise StoreError(str(path), why) from error.__cause__
            raise

    def moved_from(self, machine_hint: Optional[str]) -> Optional[str]:
        """The hint of the machine where this folder was last used, if it differs from `machine_hint`.

        Stores the current one. A machine without a hint (no machine-id) never counts as a different one.
        """
        if not machine_hint:
            return None
        path = self.path / MACHINE_FILE
        known = _hint_in(path)
        if known == machine_hint:
            return None
        try:
            content = json.dumps({"machine_hint": machine_hint, "before": known}).encode() + b"\n"
            replace_file(path, content, durable=False)
        except StoreError:  # a full disk: it is reported again at the next start
            return known
        return known

    def close(self) -> None:
        """Let another agent use the folder."""
        self._lock.release()


def holder_of(path: Path) -> Optional[int]:
    """The process id of the agent that uses the folder `path` now; None if there is none or it is unknown."""
    return pid_of_holder(path / LOCK_FILE)


def holder_text(holder_pid: Optional[int]) -> str:
    """A sentence that names the holder of the lock and what to do, also if it has exited but hangs in the kernel."""
    if holder_pid is None:
        return "another agent uses this state directory; stop it"
    if _is_ending(holder_pid):
        return (
            f"process {holder_pid}, an agent, has exited, but the kernel still holds it and its lock, because a disk "
            "or mount does not answer; wait until it does, or restart the machine"
        )
    return f"the agent with process id {holder_pid} uses this state directory; stop it"


def _is_ending(pid: int) -> bool:
    """True for a zombie whose lock is still held: one of its threads waits uninterruptibly."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False


def _hint_in(path: Path) -> Optional[str]:
    try:
        plain = json.loads(read_file(path, 4096))
    except (OSError, StoreError, ValueError, RecursionError):  # absent or damaged: no earlier machine is known
        return None
    hint = plain.get("machine_hint") if isinstance(plain, dict) else None
    return hint if isinstance(hint, str) else None
