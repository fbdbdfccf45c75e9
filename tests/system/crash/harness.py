"""Start a writer, kill it at a random instant, and compare what is on the disk with what it had acknowledged.

The victim is a fork of this process, so that a round costs milliseconds; it is killed by SIGKILL, which nothing in
it can notice. Killing shows what a crash of the process leaves, not what a loss of power leaves.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import time
from pathlib import Path
from typing import Any, Callable, Optional

from registry_core import NodeRegistry
from registry_core.storage.sealing import KeyRing

State = dict[str, tuple[str, Optional[float]]]
"""Host name and score of each node; None: a score that nobody told, whatever it is."""


def murdered(deed: Callable[[int], None], delay_seconds: float) -> list[list[Any]]:
    """Run `deed` in a child, kill it after the delay, and return the lines that it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            deed(writing)
        finally:
            os._exit(99)  # a deed does not end by itself
    os.close(writing)
    raw = bytearray()
    deadline = time.monotonic() + delay_seconds
    while (rest := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], rest)[0]:
            piece = os.read(reading, 65536)
            if not piece:
                break
            raw += piece
    os.kill(child, signal.SIGKILL)
    _pid, status = os.waitpid(child, 0)
    while piece := os.read(reading, 65536):
        raw += piece
    os.close(reading)
    assert os.WIFSIGNALED(status), f"the victim ended by itself: {status}; last lines: {bytes(raw[-300:])!r}"
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def state_on_disk(path: Path, keys: Optional[KeyRing]) -> State:
    """What an opening for writing finds, which is what every crash has to leave."""
    with NodeRegistry(path, encryption_key=keys) as registry:
        return {node.id: (node.hostname, node.reputation) for node in registry.list_nodes()}


class TokenStore:
    """What must be there: all that was acknowledged; and for each thread one step that may be there or not."""

    def __init__(self) -> None:
        self.expected: State = {}
        self.acknowledged = 0
        self.caught_in_the_act = 0

    def check(self, lines: list[list[Any]], found: State) -> None:
        """Compare; then what was found is what is expected of the next round."""
        open_steps: dict[int, list[list[Any]]] = {}
        for kind, thread, detail in lines:
            if kind == "will":
                open_steps[thread] = detail
            else:
                self.acknowledged += 1
                self.expected = after(self.expected, open_steps.pop(thread), detail)
        self.caught_in_the_act += bool(open_steps)
        for changes in open_steps.values():
            self._check_open_step(changes, found)
        for node_id, (hostname, score) in self.expected.items():
            if score is None and node_id in found:
                self.expected[node_id] = (hostname, found[node_id][1])
        assert found == self.expected, difference(self.expected, found)

    def _check_open_step(self, changes: list[list[Any]], found: State) -> None:
        """A step that was not acknowledged is wholly there or not at all."""
        touched = [change[0] for change in changes]
        scores = [found.get(node_id, ("", None))[1] for node_id in touched]
        done = after(self.expected, changes, scores)
        there = {node_id: found.get(node_id) for node_id in touched}
        undone = all(alike(self.expected.get(node_id), there[node_id]) for node_id in touched)
        assert undone or all(alike(done.get(node_id), there[node_id]) for node_id in touched), (
            f"half of a step: {changes}, {there}"
        )
        for node_id in touched:
            self.expected.pop(node_id, None)
            if node_id in found:
                self.expected[node_id] = found[node_id]


def after(state: State, changes: list[list[Any]], results: list[Optional[float]]) -> State:
    """The state that follows from a step."""
    new = dict(state)
    for change, result in zip(changes, results):
        node_id = change[0]
        if len(change) == 1:
            new[node_id] = (new[node_id][0] if node_id in new else "", result)
        elif change[1] is None:
            new.pop(node_id, None)
        else:
            new[node_id] = (change[1], new[node_id][1] if node_id in new else None)
    return new


def alike(expected: Optional[tuple[str, Optional[float]]], found: Optional[tuple[str, Optional[float]]]) -> bool:
    """Equal, but for a score that nobody told."""
    if expected is None or found is None or expected[1] is not None:
        return expected == found
    return expected[0] == found[0]


def difference(expected: State, found: State) -> str:
    """Only what differs, for the message."""
    lost = {node_id: state for node_id, state in expected.items() if found.get(node_id) != state}
    instead = {node_id: found.get(node_id) for node_id in lost}
    return f"acknowledged {lost}, found {instead}, never asked for {set(found) - set(expected)}"


def delays(rounds: int, longest_seconds: float, seed: int) -> list[float]:
    """Random instants; a fixed seed does not fix what the victim is doing then, but it fixes the plan."""
    draw = random.Random(seed)
    return [draw.uniform(0.0, longest_seconds) for _ in range(rounds)]
