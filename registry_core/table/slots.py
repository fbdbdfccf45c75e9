"""One slot per node: its indexed columns, newest sample and liveness, stored in arrays to use little memory.

Slots are assigned in order of registration, and that order is preserved.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from datetime import datetime, timezone
from hashlib import blake2b
from typing import Optional

from registry_core.models.columns import Columns, label_of_tag, label_of_wallet, labels
from registry_core.models.status import Admission, Liveness, NodeHealth
from registry_core.models.trusted import health_sample
from registry_core.rules.health import ALL_CONDITIONS, ALL_UNKNOWN

__all__ = ["LabelHash", "Slots"]

GAUGES = 6
LOAD, MEMORY, DISK, SEEN, SEEN_AT, CPUS = range(GAUGES)
"""The values of a slot that a report changes, in one array, since at a million nodes each array costs a cache miss:
load average, memory %, disk %, the last sign of life (monotonic and Unix seconds), the CPUs that the load refers to."""

LONG_SILENT = -math.inf
"""Replaces the last sign of life of a node that was down in an earlier run and has not reported in this one."""

_NAN = math.nan
HAS_CRITICAL = tuple(conditions.any_critical for conditions in ALL_CONDITIONS)
LIVENESS = tuple(Liveness)
LIVENESS_CODE = {liveness: code for code, liveness in enumerate(LIVENESS)}
NO_LIVENESS = 255
"""The value of an empty slot, so that states can be counted."""
_LIVE = LIVENESS_CODE[Liveness.LIVE]
_LEFT = LIVENESS_CODE[Liveness.LEFT]
_WALLET = label_of_wallet("")
_NEWCOMER = Admission.PROBATION.value
_MAY_WORK = {Admission.APPROVED.value, Admission.PROBATION.value}


_TAG = label_of_tag("", "")[:1]
MOST_TAGS_REMEMBERED = 10_000


class LabelHash:
    """A 64-bit keyed BLAKE2b hash of a label; without the key, collisions cannot be constructed.

    Every process with the same key computes the same hashes, so that a stored index can be read again.
    """

    __slots__ = ("_begun", "_tags")

    def __init__(self, key: Optional[bytes] = None) -> None:
        self._begun = blake2b(key=os.urandom(16) if key is None else key, digest_size=8, person=b"duxnet-label")
        self._tags: dict[str, int] = {}  # tags only: many nodes share them, unlike wallets

    def __call__(self, label: str) -> int:
        """The hash of a label."""
        known = self._tags.get(label)
        if known is not None:
            return known
        begun = self._begun.copy()  # copying takes half as long as a new hash
        begun.update(label.encode("utf-8", "surrogatepass"))
        made = int.from_bytes(begun.digest(), "little", signed=True)
        if label[:1] == _TAG and len(self._tags) < MOST_TAGS_REMEMBERED:
            self._tags[label] = made
        return made


class Slots:
    """Arrays indexed by slot. The slot of a removed node stays empty."""

    def __init__(self, label_hash: LabelHash) -> None:
        self.label_hash = label_hash
        self._no_wallet = label_hash(_WALLET)
        self.by_id: dict[str, int] = {}
        self.ids: list[Optional[str]] = []
        self.sequence = array("Q")
        self.score = array("H")
        self.cpu_cores = array("I")
        self.memory_gb = array("d")
        self.storage_gb = array("d")
        self.gpu_enabled = bytearray()
        self.gpus: list[str] = []
        self.label_hashes: list[bytes] = []
        self.ready = bytearray()  # derived, see `judge`
        self.may_work = bytearray()  # by admission
        self.newcomer = bytearray()  # on probation
        self.cordoned = bytearray()
        self.interval = array("f")
        self.liveness = bytearray()
        self.conditions = bytearray()
        self.gauges = array("d")  # GAUGES values per slot
        self.unsaved = bytearray()

    def __len__(self) -> int:
        return len(self.by_id)

    def append(self, columns: Columns) -> int:
        """Add a slot at the end and return it."""
        slot = len(self.ids)
        self.by_id[columns.node_id] = slot
        self.ids.append(columns.node_id)
        self.sequence.append(columns.sequence)
        self.score.append(columns.score)
        self.cpu_cores.append(columns.cpu_cores)
        self.memory_gb.append(columns.memory_gb)
        self.storage_gb.append(columns.storage_gb)
        self.gpu_enabled.append(columns.gpu_enabled)
        self.gpus.append(sys.intern(columns.gpus))
        self.label_hashes.append(self._hashes(columns.labels))
        self.may_work.append(columns.admission in _MAY_WORK)
        self.newcomer.append(columns.admission == _NEWCOMER)
        self.cordoned.append(columns.cordoned)
        self.interval.append(columns.interval_seconds)
        self.ready.append(0)
        self.unsaved.append(0)
        self.liveness.append(_LEFT if columns.left else _LIVE)
        self.conditions.append(ALL_UNKNOWN)
        self.gauges.extend((_NAN, _NAN, _NAN, LONG_SILENT, _NAN, columns.host_cpus or columns.cpu_cores))
        return slot

    def set(self, slot: int, columns: Columns) -> None:
        """Replace all columns; the sample and liveness stay."""
        self.score[slot] = columns.score
        self.cpu_cores[slot] = columns.cpu_cores
        self.gauges[slot * GAUGES + CPUS] = columns.host_cpus or columns.cpu_cores
        self.memory_gb[slot] = columns.memory_gb
        self.storage_gb[slot] = columns.storage_gb
        self.gpu_enabled[slot] = columns.gpu_enabled
        self.gpus[slot] = sys.intern(columns.gpus)
        self.label_hashes[slot] = self._hashes(columns.labels)
        self.may_work[slot] = columns.admission in _MAY_WORK
        self.newcomer[slot] = columns.admission == _NEWCOMER
        self.cordoned[slot] = columns.cordoned
        self.interval[slot] = columns.interval_seconds

    def remove(self, slot: int) -> None:
        """Empty the slot; its number is not given to another node."""
        node_id = self.ids[slot]
        if node_id is not None:
            del self.by_id[node_id]
        self.ids[slot] = None
        self.gpus[slot] = ""
        self.label_hashes[slot] = b""
        self.liveness[slot] = NO_LIVENESS
        self.ready[slot] = self.unsaved[slot] = 0

    def judge(self, slot: int) -> bool:
        """Update `ready` (as `Node.is_ready`); True if it changed."""
        ready = int(
            self.may_work[slot]
            and self.liveness[slot] == _LIVE
            and not self.cordoned[slot]
            and not HAS_CRITICAL[self.conditions[slot]]
        )
        changed = ready != self.ready[slot]
        self.ready[slot] = ready
        return changed

    def labels(self, slot: int) -> array[int]:
        """The hashes of the slot's labels."""
        return array("q", self.label_hashes[slot])

    def _hashes(self, packed: str) -> bytes:
        """The hashes of the labels in a column, eight bytes each; a missing wallet has a hash too."""
        every = [self.label_hash(label) for label in labels(packed)]
        if not packed.startswith(_WALLET):
            every.append(self._no_wallet)
        return array("q", every).tobytes()

    def kept(self) -> list[int]:
        """The slots that are not empty."""
        return [slot for slot, node_id in enumerate(self.ids) if node_id is not None]

    def compact(self) -> dict[int, int]:
        """Close the gaps left by removed nodes, in the same order. Returns the new slots by the old ones."""
        kept = self.kept()
        moved = {old: new for new, old in enumerate(kept)}
        for name, values in list(vars(self).items()):
            if isinstance(values, bytearray):
                setattr(self, name, bytearray([values[slot] for slot in kept]))
            elif values is self.gauges:
                kept_gauges = array("d")
                for slot in kept:
                    kept_gauges.extend(values[slot * GAUGES : slot * GAUGES + GAUGES])
                self.gauges = kept_gauges
            elif isinstance(values, array):
                setattr(self, name, array(values.typecode, [values[slot] for slot in kept]))
            elif isinstance(values, list):
                setattr(self, name, [values[slot] for slot in kept])
        self.by_id = {str(node_id): slot for slot, node_id in enumerate(self.ids)}
        return moved

    def restore_sample(self, slot: int, sample: NodeHealth) -> None:
        """Restore a sample of an earlier run, without its conditions and liveness."""
        first = slot * GAUGES
        self.gauges[first + LOAD] = _or_nan(sample.load_average)
        self.gauges[first + MEMORY] = _or_nan(sample.memory_usage)
        self.gauges[first + DISK] = _or_nan(sample.disk_usage)
        self.gauges[first + SEEN_AT] = _NAN if sample.last_heartbeat is None else sample.last_heartbeat.timestamp()

    def copy_soft(self, slot: int, other: Slots, other_slot: int) -> None:
        """Copy sample, conditions and liveness from a slot of another table."""
        for name in ("conditions", "liveness", "unsaved"):
            getattr(self, name)[slot] = getattr(other, name)[other_slot]
        mine, theirs = slot * GAUGES, other_slot * GAUGES
        self.gauges[mine : mine + CPUS] = other.gauges[theirs : theirs + CPUS]  # the CPUs come from the columns

    def has_news(self, slot: int, other: Slots, other_slot: int) -> bool:
        """Whether the node reported, went down, left or returned since `other` was loaded from the same store."""
        mine, theirs = slot * GAUGES, other_slot * GAUGES
        at, then = self.gauges[mine + SEEN_AT], other.gauges[theirs + SEEN_AT]
        has_reported = at != then and (at == at or then == then)  # NaN: the node never reported
        went_down_or_up = (self.gauges[mine + SEEN] == LONG_SILENT) != (other.gauges[theirs + SEEN] == LONG_SILENT)
        left_or_came = (self.liveness[slot] == _LEFT) != (other.liveness[other_slot] == _LEFT)
        return has_reported or went_down_or_up or left_or_came

    def health(self, slot: int) -> NodeHealth:
        """The newest sample and its conditions."""
        load, memory, disk, _seen, at, _cpus = self.gauges[slot * GAUGES : slot * GAUGES + GAUGES]
        return health_sample(
            _or_none(load),
            _or_none(memory),
            _or_none(disk),
            None if at != at else datetime.fromtimestamp(at, timezone.utc),
            ALL_CONDITIONS[self.conditions[slot]],
        )


def _or_nan(value: Optional[float]) -> float:
    return _NAN if value is None else value


def _or_none(value: float) -> Optional[float]:
    return None if value != value else value
