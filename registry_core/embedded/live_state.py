"""The visible state of the registry: the table, the records behind it and the events, changed by reports and timeouts.

Everything here happens under the table's lock, which is never held while the disk is written. Durable commands are in
`transactions` and `node_registry`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Callable, Optional, TypeVar

from registry_core.clock import Clock
from registry_core.embedded.node_cache import NodeCache
from registry_core.embedded.uptime import UptimeTracker
from registry_core.errors import DamagedStoreError, shown
from registry_core.events import INDEX_STEP_AT_START, EventKind, EventRing
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.record import NodeRecord
from registry_core.models.status import Conditions, Liveness, NodeHealth, Sampled, Scheduling
from registry_core.models.trusted import health_sample, node_snapshot, node_with
from registry_core.rules.health import ALL_CONDITIONS, ALL_UNKNOWN, HealthRule, HealthThresholds, load_per_cpu
from registry_core.rules.liveness import interval_of_timeout
from registry_core.rules.reputation import HourObserved
from registry_core.storage.store import Change, Delete, Put, Row, Store, Unreadable
from registry_core.table.node_table import NodeTable

T = TypeVar("T")

__all__ = ["LiveState"]

LONGEST_REST_SECONDS = 60.0
"""`tick` requests to be called at least this often, so that a change of the wall clock is noticed."""


SAMPLES_AT_ONCE = 4_000
"""Maximum number of samples that one tick passes to the store, which takes about 6 ms, so that no call waits long."""

SHARE_OF_PERIOD = 1 / 600
"""The remaining samples follow after this share of the period (0.1 s of 60 s): 2.4 million samples a minute."""


class LiveState(AbstractContextManager[NodeTable]):
    """The registry as it is now. Its methods may be called from any thread."""

    def __init__(
        self, store: Store, thresholds: HealthThresholds, heartbeat_timeout_seconds: Optional[float], clock: Clock
    ) -> None:
        self._store = store
        self._thresholds = thresholds
        self._interval = None if heartbeat_timeout_seconds is None else interval_of_timeout(heartbeat_timeout_seconds)
        self._clock = clock
        self._monotonic = clock.monotonic
        self._lock = threading.RLock()
        self._due = -float("inf")
        self._samples_due = float("inf")
        self._is_held: Optional[Callable[[str], bool]] = None
        self._changes = 0  # how many times the visible state changed
        self.events = EventRing()
        self.uptime = UptimeTracker()
        if self._interval is not None:  # otherwise liveness is not judged, and uptime would mean nothing
            self.uptime.start(clock.monotonic())
        self.next_sequence = 1
        self._table = NodeTable(thresholds, self._interval)
        self.load()

    def load(self) -> None:
        """Reread the store. Samples that are not saved yet are kept, as are conditions and liveness."""
        with self._lock:
            older, self._table = self._table, NodeTable(self._thresholds, self._interval, self._store.label_key())
            self._table.is_held = self._is_held
            self._node_cache = NodeCache(self._table)
            now = self._clock.monotonic()
            last_sequence = 0
            for row in self._store.rows():
                self._take_up(row, now)
                last_sequence = row.columns.sequence
            if older.slots.by_id:
                self._table.take_over(older, store_is_newer=self._store.read_only)
            self.next_sequence = max(last_sequence + 1, self._stored_number("next_sequence"), self.next_sequence)
            stored_index = self._stored_number("event_index")
            if self._store.meta("event_index") is not None:
                jump = 0 if self._store.read_only else INDEX_STEP_AT_START
                self.events.restart(stored_index + jump)
            self._changes += 1
            self._due = -float("inf")

    def _take_up(self, row: Row, now: float) -> None:
        self._table.put(row.columns, now)
        slot = self._table.slots.by_id[row.columns.node_id]
        if row.sample is not None:
            self._table.slots.restore_sample(slot, row.sample)
        if row.is_down:  # a read-only registry relies on its writer for this
            self._table.was_down(slot, counts=self._interval is not None or self._store.read_only)

    def _stored_number(self, key: str) -> int:
        text = self._store.meta(key) or "0"
        if not (text.isascii() and text.isdecimal() and len(text) < 17):  # so far below 2**62 that it can grow
            where = f"meta.{key}: {shown(text)} is not a whole number below 10**16"
            raise DamagedStoreError(self._store.location, where)
        return int(text)

    def pace(self, interval_seconds: float) -> None:
        """Judge liveness by this reporting interval."""
        with self._lock:
            self._interval = interval_seconds
            for node_id in self._table.pace(interval_seconds):
                self._node_cache.changed(self._table.slots.by_id[node_id])
                self._add_liveness_event(node_id, Liveness.LIVE, Liveness.DOWN, self._clock.now())
            self.uptime.start(self._clock.monotonic())

    def hold_down(self, is_held: Optional[Callable[[str], bool]]) -> None:
        """Call `is_held` before a node becomes `down`; if it returns True, the node stays `suspect`."""
        with self._lock:
            self._is_held = is_held
            self._table.is_held = is_held

    def hours_waiting(self, record: NodeRecord) -> list[HourObserved]:
        """The node's observed hours that are not in its evidence yet; none before its registration is visible."""
        with self._lock:
            slots = self._table.slots
            slot = slots.by_id.get(record.node.id)
            if slot is None or slots.sequence[slot] != record.sequence:  # hours of an earlier registration do not count
                return []
            return self.uptime.waiting(record.node.id)

    def hours_until_removed(self, record: NodeRecord) -> list[HourObserved]:
        """As `hours_waiting`, with the observed part of the current hour; for a node that is being removed."""
        with self._lock:
            slots, node_id = self._table.slots, record.node.id
            slot = slots.by_id.get(node_id)
            if slot is None or slots.sequence[slot] != record.sequence:
                return []
            return self.uptime.until(node_id, self._table.liveness(slot), self._clock.monotonic())

    def hours_open(self) -> Optional[float]:
        """Hours since the registry opened in which it judged liveness; None if it does not judge it."""
        with self._lock:
            return self.uptime.hours_open(self._clock.monotonic())

    def hours_settled(self, node_id: str) -> None:
        """The node's observed hours are in its evidence now."""
        with self._lock:
            self.uptime.settle(node_id)

    def all_settled(self, hour: int) -> None:
        """All nodes' hours before this one are in their evidence."""
        with self._lock:
            self.uptime.settle_all(hour)

    def meta(self) -> dict[str, str]:
        """The entries of `meta` that every commit writes."""
        return {"next_sequence": str(self.next_sequence), "event_index": str(self.events.last_index)}

    def apply(self, changes: Sequence[Change], events: Iterable[tuple[EventKind, str, Mapping[str, str]]]) -> None:
        """Make durable changes visible: update the table, add the events."""
        with self._lock:
            now, at = self._clock.monotonic(), self._clock.now()
            for change in changes:
                if isinstance(change, Put):
                    self._put(change, now)
                elif isinstance(change, Delete):
                    slot = self._table.slots.by_id.get(change.node_id)
                    self._table.remove(change.node_id)
                    self.uptime.gone(change.node_id)
                    if slot is not None:
                        self._node_cache.forget(slot)
            if self._table.is_sparse():
                self._table.compact()
                self._node_cache = NodeCache(self._table)
            for kind, node_id, details in events:
                self.events.add(at, kind, node_id, details)
            self._changes += 1
            self._due = -float("inf")

    def _put(self, change: Put, now: float) -> None:
        columns = change.columns
        if self._table.put(columns, now):
            self.uptime.arrived(columns.node_id, now)
        slot = self._table.slots.by_id[columns.node_id]
        self._node_cache.forget(slot)

    def leave(self, node_id: str) -> None:
        """Mark the node as left until its next sign of life."""
        with self._lock:
            slot = self._table.slots.by_id.get(node_id)
            if slot is None:
                return
            before = self._table.liveness(slot)
            self._table.leave(slot)
            self._node_cache.changed(slot)
            if before is not Liveness.LEFT:
                self._add_liveness_event(node_id, before, Liveness.LEFT, self._clock.now())

    def sign_of_life(self, node_id: str) -> None:
        """Record a sign of life: the node is live now, and its deadline starts again."""
        with self._lock:
            slot = self._table.slots.by_id.get(node_id)
            if slot is not None:
                self._seen(slot, node_id, self._clock.monotonic(), self._clock.now())

    def _seen(self, slot: int, node_id: str, now: float, at: datetime) -> None:
        before, after = self._table.seen(slot, now, at.timestamp())
        self._node_cache.changed(slot)
        if before is not after:
            self._add_liveness_event(node_id, before, after, at)

    def report(
        self, node_id: str, load_average: Optional[float], memory_usage: Optional[float], disk_usage: Optional[float]
    ) -> Optional[NodeHealth]:
        """Record a checked sample of a node and return the resulting health; None if there is no such node."""
        at = self._clock.now()
        sample = (load_average, memory_usage, disk_usage)
        with self._lock:
            table = self._table
            slot = table.slots.by_id.get(node_id)
            if slot is None:
                return None
            before, after = table.report(slot, sample)
            was, is_now = table.seen(slot, self._clock.monotonic(), at.timestamp())
            health = health_sample(*sample, at, ALL_CONDITIONS[after])
            self._node_cache.reported(slot, health)
            if after != before:
                self._add_health_event(node_id, ALL_CONDITIONS[before], ALL_CONDITIONS[after], at)
            if is_now is not was:
                self._add_liveness_event(node_id, was, is_now, at)
            return health

    def judged(
        self, offer: NodeCapabilities, gauges: tuple[Optional[float], Optional[float], Optional[float]]
    ) -> NodeHealth:
        """The health that a first sample of a node with these capabilities would have."""
        per_cpu = load_per_cpu(gauges[0], offer.host_cpus or offer.cpu_cores)
        after = HealthRule(self._thresholds).conditions(per_cpu, gauges[1], gauges[2], ALL_UNKNOWN)
        return health_sample(*gauges, self._clock.now(), ALL_CONDITIONS[after])

    def tick(self) -> float:
        """Apply timeouts; return the seconds until the next call is due."""
        now = self.catch_up()
        return max(0.0, min(self._due - now, LONGEST_REST_SECONDS))

    def catch_up(self) -> float:
        """Apply timeouts if they are due, as every call does first. Returns the monotonic time."""
        now = self._monotonic()
        if now >= self._due:
            with self._lock:
                self._tick(now)
        return now

    def _tick(self, now: float) -> None:
        at = self._clock.now()
        while now >= self.uptime.next_due():
            self.uptime.close_hour(self._table.ids_in(Liveness.DOWN), self._table.ids_in(Liveness.LEFT))
        for node_id, before, after in self._table.expire(now):
            self._node_cache.changed(self._table.slots.by_id[node_id])
            self._add_liveness_event(node_id, before, after, at)
        self._end_cordons(at)
        self._due = min(
            self._table.next_due(),
            self.uptime.next_due(),
            now + self._table.next_cordon_end() - at.timestamp(),
            now + LONGEST_REST_SECONDS,
        )
        if self._store.soft_save_seconds is not None and not self._store.read_only:
            self._save_softly(now, self._store.soft_save_seconds)

    def _save_softly(self, now: float, every_seconds: float) -> None:
        if self._samples_due == float("inf"):
            self._samples_due = now + every_seconds
        if now >= self._samples_due:
            samples = self._table.unsaved(SAMPLES_AT_ONCE)
            self._store.save_samples(samples, wait=False)
            more = len(samples) == SAMPLES_AT_ONCE
            self._samples_due = now + (every_seconds * SHARE_OF_PERIOD if more else every_seconds)
        self._due = min(self._due, self._samples_due)

    def unsaved(self) -> list[Sampled]:
        """The nodes that reported or went down since the last call."""
        with self._lock:
            return self._table.unsaved()

    def not_saved(self, samples: list[Sampled]) -> None:
        """Mark samples as unsaved again after saving them failed."""
        with self._lock:
            for sample in samples:
                slot = self._table.slots.by_id.get(sample.node_id)
                if slot is not None:
                    self._table.slots.unsaved[slot] = 1

    def get(self, node_id: object) -> Optional[Node]:
        """The node as it is now."""
        with self._lock:
            try:
                slot = self._table.slots.by_id.get(node_id)  # type: ignore[call-overload]  # anything but text is no id
            except TypeError:  # unhashable
                return None
            if slot is None:
                return None
            node = self._node_cache.get(slot)
            if node is not None or not self._store.lazy:
                return node or self._read([slot])[0]
            seen, view = self._changes, self._node_cache.view(slot)
            sequence = self._table.slots.sequence[slot]
        record = self._store.read(str(node_id), sequence)
        with self._lock:
            if self._changes == seen:
                return None if record is None else self._node_cache.made_of(slot, record, view)
            slot = self._table.slots.by_id.get(str(node_id))
            return None if slot is None else self._read([slot])[0]

    def as_it_will_be(self, record: NodeRecord) -> Node:
        """The node as described by a record that is not visible yet."""
        with self._lock:
            slot = self._table.slots.by_id.get(record.node.id)
            if slot is None:
                return record.node
            return node_snapshot(self._without_ended_cordon(record.node), *self._node_cache.view(slot))

    def _without_ended_cordon(self, node: Node) -> Node:
        """The node without an expired cordon, which stays in the record until the record's next change."""
        if node.cordon is None or node.cordon.until is None or node.cordon.until > self._clock.now():
            return node
        return node_with(node, scheduling=Scheduling.ELIGIBLE, cordon=None)

    def leave_out(self, node_id: Optional[str]) -> bool:
        """Omit a node whose record is damaged from all results; True if it was not omitted before."""
        with self._lock:
            slot = self._table.slots.by_id.get(node_id) if node_id is not None else None
            if slot is None or not self._table.leave_out(slot):
                return False
            self._node_cache.forget(slot)
            return True

    @property
    def left_out(self) -> int:
        """The number of omitted nodes."""
        return self._table.left_out

    def locked(self) -> AbstractContextManager[NodeTable]:
        """`with live_state.locked() as table:` holds the lock. Keep it short: all other calls wait."""
        return self

    def __enter__(self) -> NodeTable:
        self._lock.acquire()
        return self._table

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def nodes(
        self, select: Callable[[NodeTable], tuple[list[int], T]], unreadable: Optional[Unreadable] = None
    ) -> tuple[list[Node], T]:
        """The nodes in the slots that `select` returns, in its order, and the second value that `select` returns.

        `select` is called under the lock, and again if the table changed while records were read. Damaged nodes are
        passed to `unreadable` and omitted from the result; without `unreadable` the first one's error is raised.
        """
        with self._lock:
            slots, extra = select(self._table)
            nodes, unread = self._node_cache.all_of(slots)
            if unread and not self._store.lazy:
                for place, node in zip(unread, self._read([slots[place] for place in unread], unreadable)):
                    nodes[place] = node
                unread = []
            if not unread:
                return _known(nodes), extra
            seen = self._changes
            wanted = [(place, slots[place], self._node_cache.view(slots[place])) for place in unread]
            ids = [str(self._table.slots.ids[slot]) for _place, slot, _view in wanted]
        records = self._store.read_many(ids, unreadable)  # without the lock: other calls do not wait for the disk
        with self._lock:
            if self._changes != seen:  # the records may no longer match the selection
                slots, extra = select(self._table)
                return _known(self._read(slots, unreadable)), extra
            for (place, slot, view), record in zip(wanted, records):
                if record is not None:
                    nodes[place] = self._node_cache.made_of(slot, record, view)
        return _known(nodes), extra

    def _read(self, slots: list[int], unreadable: Optional[Unreadable] = None) -> list[Optional[Node]]:
        """Snapshots of records that are read now, under the lock; None for a node that is being removed."""
        records = self._store.read_many([str(self._table.slots.ids[slot]) for slot in slots], unreadable)
        node_cache = self._node_cache
        return [
            None if record is None else node_cache.made_of(slot, record, node_cache.view(slot))
            for slot, record in zip(slots, records)
        ]

    def knows(self, node_id: str) -> bool:
        """Whether a node has this id."""
        return node_id in self._table.slots.by_id

    def _end_cordons(self, at: datetime) -> None:
        for node_id in self._table.end_cordons(at.timestamp()):
            self._node_cache.forget(self._table.slots.by_id[node_id])
            details = FrozenMap({"from": "cordoned", "to": "eligible", "reason": "the cordon expired"})
            self.events.add(at, EventKind.SCHEDULING, node_id, details)

    def _add_liveness_event(self, node_id: str, before: Liveness, after: Liveness, at: datetime) -> None:
        self.uptime.changed(node_id, before, after, self._clock.monotonic())
        details = FrozenMap({"from": before.value, "to": after.value})
        self.events.add(at, EventKind.LIVENESS, node_id, details)

    def _add_health_event(self, node_id: str, before: Conditions, after: Conditions, at: datetime) -> None:
        if before.any_critical or after.any_critical:
            details = {"load": after.load.value, "memory": after.memory.value, "disk": after.disk.value}
            self.events.add(at, EventKind.HEALTH, node_id, FrozenMap(details))


def _known(nodes: list[Optional[Node]]) -> list[Node]:
    return [node for node in nodes if node is not None]
