"""Helpers for tests of programs that use the registry: a clock moved by hand, and a store whose commits can be held."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Optional

from registry_core.embedded.node_registry import NodeRegistry
from registry_core.storage.store import Change

__all__ = ["START", "HandClock", "SlowStore"]

START = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)
"""The initial time of a `HandClock`."""

LONGEST_HOLD_SECONDS = 60.0
"""A commit that is held longer fails, so that no test waits forever."""


class HandClock:
    """A `Clock` that changes only when it is moved: `NodeRegistry(clock=HandClock())`."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.wall = START

    def monotonic(self) -> float:
        """Seconds that never decrease."""
        return self.seconds

    def now(self) -> datetime:
        """The wall-clock time, UTC."""
        return self.wall

    def move(self, seconds: float) -> None:
        """Advance both clocks."""
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds)

    def set_wall(self, wall: datetime) -> None:
        """Set the wall clock only, as an administrator might; no time passes."""
        self.wall = wall


class SlowStore:
    """Makes a registry's store behave as on a slow disk: while it is held, commits wait.

    ```
    slow = SlowStore(registry)
    slow.hold()
    thread = threading.Thread(target=registry.deregister_node, args=("node-1",))
    thread.start()
    slow.wait_for_commands(1)  # the removal is decided but not durable
    ...
    slow.let_go()
    ```
    """

    def __init__(self, registry: NodeRegistry) -> None:
        self._registry = registry
        self._commit_now = registry._store.commit
        self._gate = threading.Event()
        self._gate.set()
        self._outcomes: list[Optional[BaseException]] = []
        setattr(registry._store, "commit", self._commit)  # noqa: B010 - a method of this one instance

    def hold(self) -> None:
        """Make commits wait from now on."""
        self._gate.clear()

    def let_go(self, *outcomes: Optional[BaseException]) -> None:
        """Release the commits. Each of the next ones raises its outcome and writes nothing, or succeeds for None."""
        self._outcomes.extend(outcomes)
        self._gate.set()

    @property
    def waiting(self) -> int:
        """The number of callers that wait for the disk."""
        return self._registry._transactions.group.waiting

    def wait_for_commands(self, count: int, timeout_seconds: float = 10.0) -> None:
        """Wait until at least `count` callers wait for the disk. Raises TimeoutError."""
        end = time.monotonic() + timeout_seconds
        while self.waiting < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.waiting} callers wait for the disk, not {count}, after {timeout_seconds} s")
            time.sleep(0.001)

    def _commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        if not self._gate.wait(LONGEST_HOLD_SECONDS):
            raise TimeoutError(f"a commit was held for {LONGEST_HOLD_SECONDS} s: let_go was not called")
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome
        self._commit_now(changes, meta)
