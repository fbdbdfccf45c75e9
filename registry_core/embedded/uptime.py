"""How much of each hour each node was live, from which availability is judged.

Changes of liveness are summed in memory; nodes that are live for the whole hour, which most are, cost nothing. `table`
decides when a node is live, and `rules.reputation.availability` what an hour means for its reputation. Guarded by the
registry's lock. Hours that are not settled when the process ends count as not observed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy
from typing import Optional

from registry_core.models.status import Liveness
from registry_core.rules.reputation import HourObserved

__all__ = ["UptimeTracker"]

HOUR_SECONDS = 3600.0
MOST_HOURS = 720
"""Maximum number of unsettled hours per node; older ones are dropped. A host that settles hourly never reaches it."""

_WHOLE = HourObserved(1.0)
_AWAY = HourObserved(0.0, observed_share=0.0, live_at_start=False, away_share=1.0)
_DOWN = HourObserved(0.0, live_at_start=False)


class _Note:
    """One node's current hour. `state` is None while the node is not judged: before it registered."""

    def __init__(self, since: float, state: Optional[Liveness]) -> None:
        self.since = since
        self.state = state
        self.live_at_start = state is Liveness.LIVE
        self.fell = False
        self.seconds: Counter[Optional[Liveness]] = Counter()

    def turn(self, at: float, state: Optional[Liveness]) -> None:
        self.seconds[self.state] += max(0.0, at - self.since)  # type: ignore[assignment]  # typeshed: whole numbers
        self.fell |= self.state is Liveness.LIVE and state is not Liveness.LIVE
        self.since, self.state = max(at, self.since), state

    def hour(self) -> HourObserved:
        live, away = self.seconds[Liveness.LIVE], self.seconds[Liveness.LEFT]
        seen = live + self.seconds[Liveness.DOWN]
        return HourObserved(
            min(1.0, live / seen) if seen else 0.0,
            min(1.0, seen / HOUR_SECONDS),
            self.live_at_start,
            min(1.0, away / HOUR_SECONDS),
            self.fell,
        )


class UptimeTracker:
    """Sums up each node's hours, numbered from 0, the hour in which the registry was opened."""

    def __init__(self) -> None:
        self.now_hour = 0
        self._start: Optional[float] = None
        self._notes: dict[str, _Note] = {}
        self._unlike: dict[str, dict[int, HourObserved]] = {}  # hours in which the node was not always live
        self._settled: dict[str, int] = {}  # node → its first unsettled hour, if it differs from _all_settled
        self._all_settled = 0

    def start(self, now: float) -> None:
        """Start the first hour, at this monotonic time in seconds (as in all methods)."""
        if self._start is None:
            self._start = now

    def next_due(self) -> float:
        """When the current hour ends."""
        return float("inf") if self._start is None else self._start + HOUR_SECONDS

    def arrived(self, node_id: str, now: float) -> None:
        """Record that a new node is live."""
        if self._start is not None:
            note = self._notes.setdefault(node_id, _Note(self._start, None))
            note.turn(now, Liveness.LIVE)
            note.live_at_start = False
            self._settled[node_id] = self.now_hour

    def changed(self, node_id: str, before: Liveness, after: Liveness, now: float) -> None:
        """Record a change of liveness."""
        if self._start is None or _state(before) == _state(after):
            return
        note = self._notes.get(node_id)
        if note is None:
            was_down_at_start = before is Liveness.DOWN and self.now_hour == 0  # when it returned was not observed
            note = self._notes[node_id] = _Note(self._start, None if was_down_at_start else _state(before))
        note.turn(now, _state(after))

    def hours_open(self, now: float) -> Optional[float]:
        """Hours since the registry opened in which it judged liveness; None if it does not judge it."""
        return None if self._start is None else self.now_hour + (now - self._start) / HOUR_SECONDS

    def until(self, node_id: str, liveness: Liveness, now: float) -> list[HourObserved]:
        """As `waiting`, with the part of the current hour until now; for a node that is being removed."""
        if self._start is None:
            return []
        note = copy(self._notes.get(node_id)) or _Note(self._start, _state(liveness))
        note.seconds = note.seconds.copy()
        note.turn(now, Liveness.LEFT)
        return [*self.waiting(node_id), note.hour()]

    def gone(self, node_id: str) -> None:
        """Drop a removed node."""
        for kept in (self._notes, self._unlike, self._settled):
            kept.pop(node_id, None)

    def close_hour(self, down: Iterable[str], left: Iterable[str]) -> None:
        """Close the current hour; `down` and `left` are the nodes now in these states."""
        assert self._start is not None
        end = self._start + HOUR_SECONDS
        for node_id, whole in (*((n, _DOWN) for n in down), *((n, _AWAY) for n in left)):
            if node_id not in self._notes:
                self._unlike.setdefault(node_id, {})[self.now_hour] = whole
        for node_id, note in self._notes.items():
            note.turn(end, note.state)
            hour = note.hour()
            if hour != _WHOLE:
                self._unlike.setdefault(node_id, {})[self.now_hour] = hour
        self._notes.clear()
        self.now_hour += 1
        self._start = end
        self._all_settled = max(self._all_settled, self.now_hour - MOST_HOURS)

    def waiting(self, node_id: str) -> list[HourObserved]:
        """The node's unsettled hours, oldest first."""
        first = max(self._settled.get(node_id, 0), self._all_settled)
        unlike = self._unlike.get(node_id, {})
        return [unlike.get(hour, _WHOLE) for hour in range(first, self.now_hour)]

    def settle(self, node_id: str) -> None:
        """Mark the node's hours as written into its evidence."""
        self._unlike.pop(node_id, None)
        self._settled[node_id] = self.now_hour

    def settle_all(self, hour: int) -> None:
        """Mark all nodes' hours before `hour` as written into their evidence."""
        self._all_settled = max(self._all_settled, hour)
        self._settled = {node_id: first for node_id, first in self._settled.items() if first > hour}


def _state(liveness: Liveness) -> Liveness:
    """What counts: whether a node is suspect does not."""
    return Liveness.LIVE if liveness is Liveness.SUSPECT else liveness
