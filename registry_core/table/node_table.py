"""The table of nodes in memory: each change of a slot, with its effects on the index, liveness and deadlines.

`select` finds the slots for a query; records, locks and durability are the registry's task.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable, Optional

from registry_core.models.columns import Columns
from registry_core.models.status import Liveness, Sampled
from registry_core.rules import health, liveness
from registry_core.rules.flapping import Flapping, after_report, beats_owed, fell_silent, is_forgotten
from registry_core.rules.health import HealthRule, HealthThresholds
from registry_core.table.cordon_ends import CordonEnds
from registry_core.table.deadlines import Deadlines
from registry_core.table.slots import (
    CPUS,
    DISK,
    GAUGES,
    LIVENESS,
    LIVENESS_CODE,
    LONG_SILENT,
    MEMORY,
    SEEN,
    SEEN_AT,
    LabelHash,
    Slots,
)

if TYPE_CHECKING:
    from registry_core.table.index import BitmapIndex

__all__ = ["NodeTable", "Sample"]

FEWEST_TO_COMPACT = 10_000
"""Minimum number of empty slots (150 bytes each) before the table is compacted, which pauses the registry."""

PACED_AT_ONCE = 2500
"""Maximum number of deadlines processed in one call (about 5 ms) once a host sets the interval, since it calls often.
After a start all deadlines fall due at once, and no call should wait for a million of them."""
PACED_REST_SECONDS = 0.025
"""Pause after such a batch, so that one call never has to process a million deadlines."""

Sample = tuple[Optional[float], Optional[float], Optional[float]]
"""A node's report: load average, memory %, disk %; None: not measured."""

_NAN = math.nan
_LIVE = LIVENESS_CODE[Liveness.LIVE]
_DOWN = LIVENESS_CODE[Liveness.DOWN]


class NodeTable:
    """All nodes in memory. Not thread-safe: guarded by the registry's lock."""

    def __init__(
        self, thresholds: HealthThresholds, default_interval_seconds: Optional[float], label_key: Optional[bytes] = None
    ) -> None:
        self._rule = HealthRule(thresholds)
        self._default_interval = default_interval_seconds
        self._cordons = CordonEnds()
        self._deadlines = Deadlines()
        self._most_at_once = sys.maxsize
        self._rests_until = -math.inf
        self._watched = bytearray()  # 1: the slot has a deadline
        self._index: Optional[BitmapIndex] = None
        self.is_held: Optional[Callable[[str], bool]] = None
        self._unreadable: set[int] = set()  # slots with damaged records, which no query returns
        self._flapping: dict[str, Flapping] = {}  # the nodes that fell silent recently, latest last
        self.slots = Slots(LabelHash(label_key))

    def put(self, columns: Columns, now: float) -> bool:
        """Store the columns of a new or known node; True if it is new. This is not a sign of life."""
        slot = self.slots.by_id.get(columns.node_id)
        new = slot is None
        if slot is None:
            slot = self.slots.append(columns)
            self._watched.append(0)
            self.slots.gauges[slot * GAUGES + SEEN] = now
        else:
            if self._index is not None and slot not in self._unreadable:
                self._index.discard(slot)
            self.slots.set(slot, columns)
        if self._cordons.set(columns.node_id, columns.cordoned_until):
            self.slots.cordoned[slot] = 0
        self.slots.judge(slot)
        if self._index is not None:
            self._index.add(slot)
        self._unreadable.discard(slot)
        self._watch(slot)
        return new

    def leave_out(self, slot: int) -> bool:
        """Omit the slot from all queries until it is put again; False if it was omitted already."""
        if slot in self._unreadable:
            return False
        if self._index is not None:
            self._index.discard(slot)
        self._unreadable.add(slot)
        return True

    @property
    def left_out(self) -> int:
        """The number of slots omitted from all queries."""
        return len(self._unreadable)

    def was_down(self, slot: int, *, counts: bool) -> None:
        """Mark the node of a new slot as down in an earlier run; it stays down until it reports.

        With `counts` False, while liveness is not judged, it is live until `pace` is called.
        """
        if self.slots.liveness[slot] == _LIVE:  # otherwise it has left
            self.slots.gauges[slot * GAUGES + SEEN] = LONG_SILENT
            if counts:
                self.slots.liveness[slot] = _DOWN
                self._judge(slot)

    def remove(self, node_id: str) -> None:
        """Remove the node; no error if there is none."""
        slot = self.slots.by_id.get(node_id)
        if slot is not None:
            if self._index is not None and slot not in self._unreadable:
                self._index.discard(slot)
            self._unreadable.discard(slot)
            self.slots.remove(slot)
            self._flapping.pop(node_id, None)
            self._cordons.set(node_id, None)

    def is_sparse(self) -> bool:
        """Whether enough slots are empty for `compact` to be worthwhile."""
        return len(self.slots.ids) > FEWEST_TO_COMPACT + 2 * len(self.slots)

    def compact(self) -> None:
        """Give the nodes new slots without gaps. Takes 3 µs per node."""
        moved = self.slots.compact()
        self._unreadable = {moved[slot] for slot in self._unreadable}
        self._index = None
        self._reset_deadlines()

    def _reset_deadlines(self) -> None:
        self._deadlines = Deadlines()
        self._watched = bytearray(len(self.slots.ids))
        for slot in range(len(self._watched)):
            self._watch(slot)

    def end_cordons(self, unix_seconds: float) -> list[str]:
        """End the expired cordons; returns their nodes."""
        over = self._cordons.pop_over(unix_seconds)
        for node_id in over:
            slot = self.slots.by_id[node_id]
            self.slots.cordoned[slot] = 0
            self._judge(slot)
        return over

    def next_cordon_end(self) -> float:
        """When `end_cordons` is next due, in Unix seconds."""
        return self._cordons.next_end()

    def _judge(self, slot: int) -> None:
        if self.slots.judge(slot) and self._index is not None and slot not in self._unreadable:
            self._index.set_ready(slot, self.slots.ready[slot])

    def report(self, slot: int, sample: Sample) -> tuple[int, int]:
        """Store a sample; returns the conditions before and after as indexes of `ALL_CONDITIONS`. Call `seen` next."""
        slots = self.slots
        load, memory, disk = sample
        gauges, first = slots.gauges, slot * GAUGES
        gauges[first] = _NAN if load is None else load
        gauges[first + MEMORY] = _NAN if memory is None else memory
        gauges[first + DISK] = _NAN if disk is None else disk
        before = slots.conditions[slot]
        if load is not None:
            load = health.load_per_cpu(load, gauges[first + CPUS])
        after = self._rule.conditions(load, memory, disk, before)
        if after != before:
            slots.conditions[slot] = after
            self._judge(slot)
        return before, after

    def seen(self, slot: int, monotonic: float, unix_seconds: float) -> tuple[Liveness, Liveness]:
        """Record a sign of life; returns the liveness before and after.

        A node that fell silent repeatedly stays suspect for some more reports.
        """
        slots = self.slots
        gauges, first = slots.gauges, slot * GAUGES
        silent_seconds = monotonic - gauges[first + SEEN]
        gauges[first + SEEN] = monotonic
        gauges[first + SEEN_AT] = unix_seconds
        slots.unsaved[slot] = 1
        if slots.liveness[slot] == _LIVE:
            return Liveness.LIVE, Liveness.LIVE
        before = LIVENESS[slots.liveness[slot]]
        after = self._recovered(slot, silent_seconds) if before is not Liveness.LEFT else Liveness.LIVE
        slots.liveness[slot] = LIVENESS_CODE[after]
        self._judge(slot)
        self._watch(slot)
        return before, after

    def _recovered(self, slot: int, silent_seconds: float) -> Liveness:
        node_id, interval = self.slots.ids[slot], self._interval(slot)
        state = self._flapping.get(node_id) if node_id is not None else None
        if node_id is None or state is None or interval is None:
            return Liveness.LIVE
        self._flapping[node_id] = state = after_report(state, silent_seconds, interval)
        return Liveness.SUSPECT if beats_owed(state) else Liveness.LIVE

    def _note_silence(self, node_id: str, now: float, interval: float) -> None:
        self._flapping[node_id] = fell_silent(self._flapping.pop(node_id, None), now, interval)
        while self._flapping:  # oldest first; forgotten entries are removed, so that the map stays small
            oldest = next(iter(self._flapping))
            if not is_forgotten(self._flapping[oldest], now, interval):
                return
            del self._flapping[oldest]

    def leave(self, slot: int) -> None:
        """Mark the node as left."""
        if self.slots.liveness[slot] == _DOWN:
            self.slots.unsaved[slot] = 1  # the stored sample says down, which must not hold when it returns
        self.slots.liveness[slot] = LIVENESS_CODE[Liveness.LEFT]
        self._judge(slot)

    def expire(self, now: float) -> Iterator[tuple[str, Liveness, Liveness]]:
        """Judge the slots whose deadline is due; yields (id, before, after) for each change of liveness."""
        if now < self._rests_until:  # called after a commit, before the pause is over
            return
        slots = self.slots
        due = self._deadlines.pop_due(now, self._most_at_once)
        if len(due) == self._most_at_once:
            self._rests_until = now + PACED_REST_SECONDS
        for slot in due:
            self._watched[slot] = 0
            node_id = slots.ids[slot]
            interval = self._interval(slot)
            if node_id is None or interval is None:
                continue
            before = LIVENESS[slots.liveness[slot]]
            if before is Liveness.LEFT or before is Liveness.DOWN:  # only a sign of life changes that
                continue
            after = liveness.liveness(now - slots.gauges[slot * GAUGES + SEEN], interval)
            if after is Liveness.DOWN and self.is_held is not None and self.is_held(node_id):
                after = Liveness.SUSPECT
                self._look_again(slot, now + interval)
            if after is Liveness.LIVE and before is not Liveness.LIVE:  # it reported but still owes reports
                after = before
            if before is Liveness.LIVE and after is not Liveness.LIVE:
                self._note_silence(node_id, now, interval)
            self._watch(slot)
            if after is not before:
                slots.liveness[slot] = LIVENESS_CODE[after]
                if after is Liveness.DOWN:
                    slots.unsaved[slot] = 1
                self._judge(slot)
                yield node_id, before, after

    def next_due(self) -> float:
        """When `expire` is next due, in monotonic seconds."""
        return max(self._deadlines.next_due(), self._rests_until)

    def liveness(self, slot: int) -> Liveness:
        """The liveness as last judged."""
        return LIVENESS[self.slots.liveness[slot]]

    def index(self) -> BitmapIndex:
        """The bitmap index, built on first use and updated from then on."""
        if self._index is None:
            from registry_core.table.index import BitmapIndex  # saves 2 MiB in an agent, which makes no queries

            self._index = BitmapIndex(self.slots)
            for slot in self._unreadable:
                self._index.discard(slot)
        return self._index

    def take_over(self, older: NodeTable, *, store_is_newer: bool = False) -> None:
        """Copy sample, conditions and liveness of the same nodes from an older table.

        `store_is_newer`: everything in the older table came from the store, so that newer stored values win.
        """
        mine, theirs = self.slots, older.slots
        for node_id, slot in mine.by_id.items():
            their_slot = theirs.by_id.get(node_id)
            if their_slot is None or (store_is_newer and mine.has_news(slot, theirs, their_slot)):
                continue
            mine.copy_soft(slot, theirs, their_slot)
            self._judge(slot)
        self._reset_deadlines()

    def unsaved(self, most: Optional[int] = None) -> list[Sampled]:
        """The nodes that reported or went down since the last call, at most `most` of them.

        Without `most` the result also contains every node that went down in this run: a down node does not report
        again, so a failed background write of it would otherwise never be repeated.
        """
        slots = self.slots
        if most is None:
            self._mark_fallen()
        found: list[Sampled] = []
        slot = slots.unsaved.find(1)
        while slot >= 0 and len(found) != most:
            slots.unsaved[slot] = 0
            found.append(Sampled(str(slots.ids[slot]), slots.health(slot), slots.liveness[slot] == _DOWN))
            slot = slots.unsaved.find(1, slot + 1)
        return found

    def _mark_fallen(self) -> None:
        slots = self.slots
        slot = slots.liveness.find(_DOWN)
        while slot >= 0:
            slots.unsaved[slot] |= slots.gauges[slot * GAUGES + SEEN] != LONG_SILENT
            slot = slots.liveness.find(_DOWN, slot + 1)

    def _interval(self, slot: int) -> Optional[float]:
        if self._default_interval is None:
            return None
        return max(self.slots.interval[slot], self._default_interval)

    def pace(self, interval_seconds: float) -> list[str]:
        """Judge liveness by this interval from now on. Existing deadlines stay and are then set by the new interval.

        Returns the nodes that become down at once: those marked by `was_down`, if liveness was not judged before.
        """
        slots, unwatched, fallen = self.slots, self._default_interval is None, []
        self._most_at_once = PACED_AT_ONCE
        self._default_interval = interval_seconds
        for node_id, slot in slots.by_id.items() if unwatched else ():
            if slots.liveness[slot] == _LIVE and slots.gauges[slot * GAUGES + SEEN] == LONG_SILENT:
                slots.liveness[slot] = _DOWN
                self._judge(slot)
                fallen.append(node_id)
            self._watch(slot)
        return fallen

    def ids(self) -> list[str]:
        """All nodes, in order of registration."""
        return [node_id for node_id in self.slots.ids if node_id is not None]

    def ids_in(self, state: Liveness) -> list[str]:
        """The nodes in this state. The cost depends on their number only."""
        slots, code = self.slots, LIVENESS_CODE[state]
        found = []
        slot = slots.liveness.find(code)
        while slot >= 0:
            found.append(str(slots.ids[slot]))
            slot = slots.liveness.find(code, slot + 1)
        return found

    def liveness_counts(self) -> tuple[int, ...]:
        """The number of nodes in each state, in the order of `Liveness`."""
        return tuple(self.slots.liveness.count(LIVENESS_CODE[state]) for state in LIVENESS)

    def _look_again(self, slot: int, due: float) -> None:
        self._watched[slot] = 1
        self._deadlines.add(slot, due)

    def _watch(self, slot: int) -> None:
        interval = self._interval(slot)
        if interval is None or self._watched[slot]:
            return
        seen = self.slots.gauges[slot * GAUGES + SEEN]
        state = self.slots.liveness[slot]
        if state == LIVENESS_CODE[Liveness.LIVE]:
            due = seen + liveness.SUSPECT_AFTER_INTERVALS * interval
        elif state == LIVENESS_CODE[Liveness.SUSPECT]:
            due = seen + liveness.DOWN_AFTER_INTERVALS * interval
        else:
            return
        self._watched[slot] = 1
        self._deadlines.add(slot, due)
