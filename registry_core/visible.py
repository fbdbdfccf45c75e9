"""What callers see: the table, the records behind it, the events; and how time and reports change it.

Here: everything that happens under the table's lock, which is never held while the disk is written. Not here:
durable commands (`staging`, `node_registry`).
"""

from __future__ import annotations

import re
import threading
from datetime import datetime
from typing import Callable, NamedTuple, Optional

from registry_core.clock import Clock
from registry_core.errors import DamagedStoreError, ValidationError, shown
from registry_core.events import INDEX_STEP_AT_START, EventKind, EventRing
from registry_core.models import limits
from registry_core.models.frozen_map import FrozenMap
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.query import NodeOrder, NodeQuery
from registry_core.models.snapshot import health_sample, node_snapshot, node_with
from registry_core.models.status import Conditions, Liveness, NodeHealth, Scheduling
from registry_core.rules.health import HealthThresholds, conditions, load_per_cpu
from registry_core.rules.liveness import interval_of_timeout
from registry_core.staging import Unit
from registry_core.storage.contract import Put, Store
from registry_core.table.node_table import NodeTable, Sample

_CURSOR = re.compile(r"~([0-9]{1,3})~([0-9]{1,18})\Z")

__all__ = ["NodePage", "Visible"]

LONGEST_REST_SECONDS = 60.0
"""`tick` asks to be called at least this often, so that a wall clock that was set is noticed."""

MOST_SNAPSHOTS = 65_536
"""Ready-made snapshots kept, about 1 KiB each with what they hold. More: fewer made anew in large registries."""


class NodePage(NamedTuple):
    """Some of the nodes that answer a query, and the cursor behind them (None: there are no more)."""

    nodes: list[Node]
    next: Optional[str]


class Visible:
    """The registry as it is now. Its methods may be called from any thread."""

    def __init__(
        self, store: Store, thresholds: HealthThresholds, heartbeat_timeout_seconds: Optional[float], clock: Clock
    ) -> None:
        self._store = store
        self._thresholds = thresholds
        self._interval = None if heartbeat_timeout_seconds is None else interval_of_timeout(heartbeat_timeout_seconds)
        self._clock = clock
        self._lock = threading.RLock()
        self._due = -float("inf")
        self._samples_due = float("inf")
        self._is_held: Optional[Callable[[str], bool]] = None
        self.events = EventRing()
        self.next_sequence = 1
        self.load()

    def load(self) -> None:
        """Read the store anew. Samples that came in since they were saved are kept; conditions and liveness too."""
        with self._lock:
            older = getattr(self, "_table", None)
            self._table = NodeTable(self._thresholds, self._interval)
            self._table.is_held = self._is_held
            self._snapshots: dict[int, Node] = {}
            self._cordons: dict[int, float] = {}  # slot → Unix seconds of its end
            now = self._clock.monotonic()
            last_sequence = 0
            for row in self._store.rows():
                self._table.put(row.columns, now)
                slot = self._table.slots.by_id[row.columns.node_id]
                if row.sample is not None:
                    self._table.slots.restore_sample(slot, row.sample)
                self._note_cordon(slot, row.columns.cordoned_until)
                last_sequence = row.columns.sequence
            if older is not None:
                self._table.take_over(older)
            self.next_sequence = max(last_sequence + 1, self._stored_number("next_sequence"), self.next_sequence)
            stored_index = self._stored_number("event_index")
            if self._store.meta("event_index") is not None:
                jump = 0 if self._store.read_only else INDEX_STEP_AT_START
                self.events.restart(stored_index + jump)
            self._due = -float("inf")

    def _stored_number(self, key: str) -> int:
        text = self._store.meta(key) or "0"
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise DamagedStoreError(self._store.location, f"meta.{key}: {shown(text)} is no whole number")
        return int(text)

    def pace(self, interval_seconds: float) -> None:
        """Judge silence by this interval."""
        with self._lock:
            self._interval = interval_seconds
            self._table.pace(interval_seconds)

    def hold_down(self, is_held: Optional[Callable[[str], bool]]) -> None:
        """Ask `is_held` before a node is called down."""
        with self._lock:
            self._is_held = is_held
            self._table.is_held = is_held

    def liveness_counts(self) -> tuple[int, ...]:
        """How many nodes are in each state, in the order of `Liveness`."""
        with self._lock:
            return self._table.liveness_counts()

    def meta(self) -> dict[str, str]:
        """What every commit writes beside the records."""
        return {"next_sequence": str(self.next_sequence), "event_index": str(self.events.last_index)}

    def make_visible(self, unit: Unit) -> None:
        """The unit is durable: change the table, tell the events."""
        with self._lock:
            now, at = self._clock.monotonic(), self._clock.now()
            for change in unit.changes:
                if isinstance(change, Put):
                    self._put(change, now, at)
                else:
                    slot = self._table.slots.by_id.get(change.node_id)
                    self._table.remove(change.node_id)
                    if slot is not None:
                        self._snapshots.pop(slot, None)
                        self._cordons.pop(slot, None)
            if self._table.is_sparse():
                self._compact()
            for kind, node_id, details in unit.events:
                self.events.add(at, kind, node_id, details)
            for report in unit.soft:
                report()
            self._due = -float("inf")

    def _compact(self) -> None:
        moved = self._table.compact()
        self._snapshots.clear()
        self._cordons = {moved[slot]: until for slot, until in self._cordons.items()}

    def _put(self, change: Put, now: float, at: datetime) -> None:
        columns = change.columns
        self._table.put(columns, now)
        slot = self._table.slots.by_id[columns.node_id]
        self._snapshots.pop(slot, None)
        self._note_cordon(slot, columns.cordoned_until)
        if columns.left:
            self._set_left(slot, columns.node_id, at)

    def _set_left(self, slot: int, node_id: str, at: datetime) -> None:
        before = self._table.liveness(slot)
        self._table.leave(slot)
        if before is not Liveness.LEFT:
            self._tell_liveness(node_id, before, Liveness.LEFT, at)

    def sign_of_life(self, node_id: str) -> None:
        """The node was heard: it is live, from now on for another interval."""
        with self._lock:
            slot = self._table.slots.by_id.get(node_id)
            if slot is not None:
                self._seen(slot, node_id, self._clock.monotonic(), self._clock.now())

    def _seen(self, slot: int, node_id: str, now: float, at: datetime) -> None:
        before, after = self._table.seen(slot, now, at.timestamp())
        self._snapshots.pop(slot, None)
        if before is not after:
            self._tell_liveness(node_id, before, after, at)

    def report(
        self, node_id: str, load_average: Optional[float], memory_usage: Optional[float], disk_usage: Optional[float]
    ) -> Optional[NodeHealth]:
        """A checked sample of a node; None when there is no such node."""
        now, at = self._clock.monotonic(), self._clock.now()
        with self._lock:
            slot = self._table.slots.by_id.get(node_id)
            if slot is None:
                return None
            sample = Sample(load_average, memory_usage, disk_usage, now, at.timestamp())
            before, after = self._table.report(slot, sample)
            self._seen(slot, node_id, now, at)
            if before is not after:
                self._tell_health(node_id, before, after, at)
            return self._table.health(slot)

    def judged(
        self, offer: NodeCapabilities, gauges: tuple[Optional[float], Optional[float], Optional[float]]
    ) -> NodeHealth:
        """What would follow from a first sample of a node that offers this."""
        per_cpu = load_per_cpu(gauges[0], offer.host_cpus or 0, offer.cpu_cores)
        after = conditions((per_cpu, gauges[1], gauges[2]), self._thresholds, Conditions())
        return health_sample(*gauges, self._clock.now(), after)

    def tick(self) -> float:
        """Let time do its work; returns in how many seconds to come again."""
        now = self._clock.monotonic()
        if now >= self._due:
            with self._lock:
                self._tick(now)
        return max(0.0, min(self._due - now, LONGEST_REST_SECONDS))

    def _tick(self, now: float) -> None:
        at = self._clock.now()
        for node_id, before, after in self._table.expire(now):
            self._snapshots.pop(self._table.slots.by_id[node_id], None)
            self._tell_liveness(node_id, before, after, at)
        self._end_cordons(at)
        self._due = min(self._table.next_due(), now + self._cordon_rest(at), now + LONGEST_REST_SECONDS)
        if self._store.soft_save_seconds is not None and not self._store.read_only:
            self._save_softly(now, self._store.soft_save_seconds)

    def _save_softly(self, now: float, every_seconds: float) -> None:
        if self._samples_due == float("inf"):
            self._samples_due = now + every_seconds
        if now >= self._samples_due:
            self._store.save_samples(self._table.unsaved(), wait=False)
            self._samples_due = now + every_seconds
        self._due = min(self._due, self._samples_due)

    def unsaved(self) -> list[tuple[str, NodeHealth]]:
        """The samples that came in since they were last asked for."""
        with self._lock:
            return self._table.unsaved()

    def not_saved(self, samples: list[tuple[str, NodeHealth]]) -> None:
        """Saving failed: keep them for the next time."""
        with self._lock:
            for node_id, _sample in samples:
                slot = self._table.slots.by_id.get(node_id)
                if slot is not None:
                    self._table.slots.unsaved[slot] = 1

    def get(self, node_id: object) -> Optional[Node]:
        """The node as it is now."""
        with self._lock:
            slot = self._table.slots.by_id.get(limits.lookup_key(node_id))
            return None if slot is None else self._snapshot(slot)

    def find(self, query: NodeQuery) -> NodePage:
        """The nodes that answer a query, in its order."""
        with self._lock:
            behind = None if query.after is None else self._place(query.after)
            one_more = None if query.limit is None else query.limit + 1
            slots = self._table.select(query, behind, one_more)
            more = query.limit is not None and len(slots) > query.limit
            if more:
                slots.pop()
            cursor = "~{}~{}".format(*self._place_of(slots[-1])) if more and slots else None
            return NodePage(self._snapshots_of(slots), cursor if query.order is NodeOrder.REPUTATION else None)

    def count(self, query: NodeQuery) -> int:
        """How many nodes answer a query."""
        with self._lock:
            return self._table.count(query)

    def knows(self, node_id: str) -> bool:
        """Whether a node has this id."""
        return node_id in self._table.slots.by_id

    def __len__(self) -> int:
        return len(self._table)

    def _place_of(self, slot: int) -> tuple[int, int]:
        return self._table.slots.score[slot], self._table.slots.sequence[slot]

    def _place(self, cursor: str) -> tuple[int, int]:
        form = _CURSOR.match(cursor)
        if form is not None:
            return min(int(form[1]), 500), int(form[2])
        slot = self._table.slots.by_id.get(cursor)
        if slot is None:
            raise ValidationError("after", cursor, "must be a cursor of an earlier answer, or the id of a node")
        return self._place_of(slot)

    def _snapshots_of(self, slots: list[int]) -> list[Node]:
        found = [self._snapshot(slot) for slot in slots]
        return [node for node in found if node is not None]

    def _snapshot(self, slot: int) -> Optional[Node]:
        node = self._snapshots.get(slot)
        if node is None:
            table = self._table
            record = self._store.read(str(table.slots.ids[slot]))
            if record is None:
                return None
            base = record.node
            if base.scheduling is Scheduling.CORDONED and not table.slots.cordoned[slot]:
                base = node_with(base, scheduling=Scheduling.ELIGIBLE, cordon=None)
            node = node_snapshot(base, table.health(slot), table.liveness(slot))
            if len(self._snapshots) >= MOST_SNAPSHOTS:
                self._snapshots.clear()
            self._snapshots[slot] = node
        return node

    def _note_cordon(self, slot: int, until: Optional[float]) -> None:
        if until is None:
            self._cordons.pop(slot, None)
        else:
            self._cordons[slot] = until

    def _cordon_rest(self, at: datetime) -> float:
        return min(self._cordons.values(), default=float("inf")) - at.timestamp()

    def _end_cordons(self, at: datetime) -> None:
        over = [slot for slot, until in self._cordons.items() if until <= at.timestamp()]
        for slot in over:
            del self._cordons[slot]
            self._table.uncordon(slot)
            self._snapshots.pop(slot, None)
            node_id = str(self._table.slots.ids[slot])
            details = FrozenMap({"from": "cordoned", "to": "eligible", "reason": "the cordon's time is over"})
            self.events.add(at, EventKind.SCHEDULING, node_id, details)

    def _tell_liveness(self, node_id: str, before: Liveness, after: Liveness, at: datetime) -> None:
        details = FrozenMap({"from": before.value, "to": after.value})
        self.events.add(at, EventKind.LIVENESS, node_id, details)

    def _tell_health(self, node_id: str, before: Conditions, after: Conditions, at: datetime) -> None:
        if before.any_critical or after.any_critical:
            details = {"load": after.load.value, "memory": after.memory.value, "disk": after.disk.value}
            self.events.add(at, EventKind.HEALTH, node_id, FrozenMap(details))
