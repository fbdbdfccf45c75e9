"""How much of each hour of the registry's own time each node was live: what availability is judged by.

Here: adding up changes of liveness, in memory. Most nodes are live throughout and cost nothing. Not here: when a node
is live (`table`), what an hour means for a reputation (`rules.reputation.availability`). The registry's lock guards it.
Hours that were not settled when the process ends were not observed: that is nobody's fault.
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
"""Hours that wait to be settled; older ones are forgotten. A host that settles them hourly never comes near."""

_WHOLE = HourObserved(1.0)
_AWAY = HourObserved(0.0, observed_share=0.0, live_at_start=False, away_share=1.0)
_DOWN = HourObserved(0.0, live_at_start=False)


class _Note:
    """One node's hour so far. `state` None: not to be judged (it is not registered yet)."""

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
    """Hours are numbered from 0, the one under way when the registry opened."""

    def __init__(self) -> None:
        self.now_hour = 0
        self._start: Optional[float] = None
        self._notes: dict[str, _Note] = {}
        self._unlike: dict[str, dict[int, HourObserved]] = {}  # hours that were not live throughout
        self._settled: dict[str, int] = {}  # node → first hour that waits, where it is not the one of all
        self._all_settled = 0

    def start(self, now: float) -> None:
        """The registry opened. Monotonic seconds here and below."""
        if self._start is None:
            self._start = now

    def next_due(self) -> float:
        """When the hour is over."""
        return float("inf") if self._start is None else self._start + HOUR_SECONDS

    def arrived(self, node_id: str, now: float) -> None:
        """A node that was not registered before is live."""
        if self._start is not None:
            note = self._notes.setdefault(node_id, _Note(self._start, None))
            note.turn(now, Liveness.LIVE)
            note.live_at_start = False
            self._settled[node_id] = self.now_hour

    def changed(self, node_id: str, before: Liveness, after: Liveness, now: float) -> None:
        """What the registry makes of a node changed."""
        if self._start is None or _state(before) == _state(after):
            return
        note = self._notes.get(node_id)
        if note is None:
            came_up_down = before is Liveness.DOWN and self.now_hour == 0  # since when it was back, nobody watched
            note = self._notes[node_id] = _Note(self._start, None if came_up_down else _state(before))
        note.turn(now, _state(after))

    def hours_open(self, now: float) -> Optional[float]:
        """For how many hours the registry has judged silence since it opened; None: it does not."""
        return None if self._start is None else self.now_hour + (now - self._start) / HOUR_SECONDS

    def until(self, node_id: str, liveness: Liveness, now: float) -> list[HourObserved]:
        """As `waiting`, with the part of the hour under way that ends now, for a node that is removed."""
        if self._start is None:
            return []
        note = copy(self._notes.get(node_id)) or _Note(self._start, _state(liveness))
        note.seconds = note.seconds.copy()
        note.turn(now, Liveness.LEFT)
        return [*self.waiting(node_id), note.hour()]

    def gone(self, node_id: str) -> None:
        """The node was removed."""
        for kept in (self._notes, self._unlike, self._settled):
            kept.pop(node_id, None)

    def close_hour(self, down: Iterable[str], left: Iterable[str]) -> None:
        """The hour is over; `down` and `left` are the nodes in these states now."""
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
        """The node's hours that were not settled yet, the oldest first."""
        first = max(self._settled.get(node_id, 0), self._all_settled)
        unlike = self._unlike.get(node_id, {})
        return [unlike.get(hour, _WHOLE) for hour in range(first, self.now_hour)]

    def settle(self, node_id: str) -> None:
        """Its hours stand in its evidence now."""
        self._unlike.pop(node_id, None)
        self._settled[node_id] = self.now_hour

    def settle_all(self, hour: int) -> None:
        """Every node's hours before `hour` stand in its evidence now."""
        self._all_settled = max(self._all_settled, hour)
        self._settled = {node_id: first for node_id, first in self._settled.items() if first > hour}


def _state(liveness: Liveness) -> Liveness:
    """What counts: whether a node is suspect does not."""
    return Liveness.LIVE if liveness is Liveness.SUSPECT else liveness
