"""What a victim does until it is killed. Each deed tells through a pipe what it is about to do and what is done.

A line `["will", thread, changes]` comes before each durable step, `["done", thread, results]` after it returned.
Changes are `[id, hostname]` (hostname None: removed) or `[id]` (a task outcome, whose score the result tells).
"""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core import Node, NodeRegistry
from registry_core.storage.maintenance.backup import restore
from registry_core.storage.maintenance.migrate import migrate, rotate_key
from registry_core.storage.sealing import KeyRing

NODES_OF_A_THREAD = 12
Tell = Callable[[list[Any]], None]


def teller(pipe: int) -> Tell:
    """Writes a line whole: less than PIPE_BUF, so that lines of threads do not mix."""

    def tell(line: list[Any]) -> None:
        os.write(pipe, json.dumps(line).encode() + b"\n")

    return tell


class Changer:
    """One thread of a writer: random changes to nodes of its own."""

    def __init__(self, registry: NodeRegistry, tell: Tell, thread: int, seed: int, lies: bool) -> None:
        self._registry = registry
        self._tell = tell
        self._thread = thread
        self._draw = random.Random(seed * 1000 + thread)
        self._lies = lies

    def run(self) -> None:
        """Until killed."""
        while True:
            kind = self._draw.random()
            if kind < 0.15:
                self._registry.save()
                continue
            changes = [self._change() for _ in range(self._draw.randint(2, 6) if kind < 0.4 else 1)]
            self._step(changes)

    def _change(self) -> list[Any]:
        node_id = f"node-{self._thread}-{self._draw.randrange(NODES_OF_A_THREAD)}"
        kind = self._draw.random()
        if kind < 0.3 and self._registry.get_node(node_id) is not None:
            return [node_id]
        return [node_id, None if kind > 0.9 else f"host-{self._draw.randrange(10**9)}"]

    def _step(self, changes: list[list[Any]]) -> None:
        if len({change[0] for change in changes}) < len(changes):
            return
        self._tell(["will", self._thread, changes])
        if self._lies:
            self._tell(["done", self._thread, [None] * len(changes)])
        if len(changes) == 1:
            results = [self._make(changes[0])]
        else:
            with self._registry.batch():
                results = [self._make(change) for change in changes]
        if not self._lies:
            self._tell(["done", self._thread, results])

    def _make(self, change: list[Any]) -> Optional[float]:
        node_id = change[0]
        if len(change) == 1:
            return round(self._registry.update_node_reputation(node_id, self._draw.random() < 0.9).score, 2)
        if change[1] is None:
            self._registry.deregister_node(node_id)
        else:
            self._registry.register_node(Node("10.0.0.1", id=node_id, hostname=change[1]))
            self._registry.update_node_health(node_id, 0.5, 10.0, 10.0)
        return None


def change_until_killed(
    path: Path, keys: Optional[KeyRing], tell: Tell, seed: int, *, threads: int, lies: bool = False
) -> None:
    """A registry in use: changes, batches, saves, from one thread or several that share commits."""
    registry = NodeRegistry(path, encryption_key=keys)
    changers = [Changer(registry, tell, thread, seed, lies) for thread in range(threads)]
    for changer in changers[1:]:
        threading.Thread(target=changer.run, daemon=True).start()
    changers[0].run()


def migrate_until_killed(source: Path, target: Path, keys: Optional[KeyRing], target_keys: Optional[KeyRing]) -> None:
    """The same migration again and again, from nothing."""
    while True:
        target.unlink(missing_ok=True)
        migrate(source, target, source_keys=keys, target_keys=target_keys)


def rotate_until_killed(path: Path, first: KeyRing, second: KeyRing) -> None:
    """From the old key to the new one and back."""
    both = KeyRing((*second.keys, *first.keys))
    back = KeyRing((*first.keys, *second.keys))
    while True:
        rotate_key(path, both)
        rotate_key(path, back)


def restore_until_killed(path: Path, copies: list[Path]) -> None:
    """One backup after the other in the same place; what was there is not collected."""
    while True:
        for copy in copies:
            aside = restore(copy, path, overwrite=True)
            if aside is not None:
                aside.unlink(missing_ok=True)
