"""The inverted index: roaring bitmaps of the slots that meet each condition of a query.

The bitmaps are updated with the slots and combined for a query. Slots are numbered in order of registration, so a
bitmap lists equal scores in the right order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Callable, ClassVar, Optional, Union

from pyroaring import BitMap

from registry_core.models.columns import gpu_groups, label_of_tag, label_of_wallet
from registry_core.models.node import NodeCapabilities
from registry_core.query.conditions import CONDITIONS, GpuDemand, has_gpus, least_hundredths
from registry_core.query.node_query import NodeQuery
from registry_core.table.ladder import CPU_THRESHOLDS, GB_THRESHOLDS, Ladder
from registry_core.table.slots import Slots

__all__ = ["BitmapIndex"]

HIGHEST_SCORE = 500
FEW = 400
"""Maximum number of candidates that are sorted by score; more are searched score by score (2 µs per score)."""

MANY_GPU_KINDS = 2_000
"""Maximum number of distinct sets of GPUs that a demand is compared with; above it, each candidate is checked."""


class Found:
    """The combined conditions of one query.

    Slots must be in all of `within` and in none of `without`; `slots` is the result, which may contain slots that do
    not match: `unsure` and `gpus` hold the checks that remain for each slot.
    """

    __slots__ = ("gpus", "slots", "unsure", "within", "without")

    def __init__(self, slots: BitMap) -> None:
        self.slots = slots
        self.within: list[BitMap] = []
        self.without: list[BitMap] = []
        self.unsure: list[tuple[object, float, BitMap]] = []  # (values by slot, minimum, slots that surely reach it)
        self.gpus: Optional[GpuDemand] = None


class BitmapIndex:
    """Bitmaps over the slots of one table."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._all = BitMap()
        self._ready = BitMap()
        self._gpu_enabled = BitMap()
        self.newcomers = BitMap()
        self._scores = [BitMap() for _ in range(HIGHEST_SCORE + 1)]
        self._scored = bytearray(HIGHEST_SCORE + 1)  # 1: some slot has, or had, this score
        self._cpu_cores = Ladder(CPU_THRESHOLDS)
        self._memory_gb = Ladder(GB_THRESHOLDS)
        self._storage_gb = Ladder(GB_THRESHOLDS)
        self._gpus: dict[str, BitMap] = {}
        self._labels: dict[int, Union[int, BitMap]] = {}  # hash of a label → the slot or slots that have it
        self._fill()

    def _fill(self) -> None:
        slots = self._slots
        taken = slots.kept()
        self._all = BitMap(taken)
        self._ready = BitMap([slot for slot in taken if slots.ready[slot]])
        self._gpu_enabled = BitMap([slot for slot in taken if slots.gpu_enabled[slot]])
        self.newcomers = BitMap([slot for slot in taken if slots.newcomer[slot]])
        by_score: list[list[int]] = [[] for _ in self._scores]
        for slot in taken:
            by_score[slots.score[slot]].append(slot)
        self._scores = [BitMap(found) for found in by_score]
        self._scored = bytearray(1 if found else 0 for found in by_score)
        for ladder, values in self._ladders():
            ladder.fill(taken, values)
        by_gpus: dict[str, list[int]] = {}
        for slot in taken:
            if slots.gpus[slot]:
                by_gpus.setdefault(slots.gpus[slot], []).append(slot)
            for label in slots.labels(slot):
                self._add_label(label, slot)
        self._gpus = {packed: BitMap(found) for packed, found in by_gpus.items()}

    def _ladders(self) -> tuple[tuple[Ladder, list[float]], ...]:
        slots = self._slots
        return (
            (self._cpu_cores, slots.cpu_cores),
            (self._memory_gb, slots.memory_gb),
            (self._storage_gb, slots.storage_gb),
        )  # type: ignore[return-value]  # arrays are read like lists

    def add(self, slot: int) -> None:
        """Add the slot to the bitmaps of its values."""
        slots = self._slots
        self._all.add(slot)
        self.set_ready(slot, slots.ready[slot])
        self._scores[slots.score[slot]].add(slot)
        self._scored[slots.score[slot]] = 1
        self._cpu_cores.add(slot, slots.cpu_cores[slot])
        self._memory_gb.add(slot, slots.memory_gb[slot])
        self._storage_gb.add(slot, slots.storage_gb[slot])
        if slots.gpu_enabled[slot]:
            self._gpu_enabled.add(slot)
        if slots.newcomer[slot]:
            self.newcomers.add(slot)
        packed = slots.gpus[slot]
        if packed:
            self._gpus.setdefault(packed, BitMap()).add(slot)
        for label in slots.labels(slot):
            self._add_label(label, slot)

    def discard(self, slot: int) -> None:
        """Remove the slot from all bitmaps, before it is changed or emptied."""
        slots = self._slots
        self._all.discard(slot)
        self._ready.discard(slot)
        self._scores[slots.score[slot]].discard(slot)
        self._cpu_cores.discard(slot, slots.cpu_cores[slot])
        self._memory_gb.discard(slot, slots.memory_gb[slot])
        self._storage_gb.discard(slot, slots.storage_gb[slot])
        self._gpu_enabled.discard(slot)
        self.newcomers.discard(slot)
        packed = slots.gpus[slot]
        if packed:
            having = self._gpus[packed]
            having.discard(slot)
            if not having:
                del self._gpus[packed]
        for label in slots.labels(slot):
            self._discard_label(label, slot)

    def set_ready(self, slot: int, ready: int) -> None:
        """Update the slot's readiness."""
        if ready:
            self._ready.add(slot)
        else:
            self._ready.discard(slot)

    def best(self, query: NodeQuery, limit: Optional[int], behind: Optional[tuple[int, int]]) -> list[int]:
        """The first `limit` slots that match, best score first, then in order of registration.

        `behind` is (score, first slot of that score) to start from.
        """
        found = self._found(query)
        least = least_hundredths(query.min_reputation)
        highest = HIGHEST_SCORE if behind is None else behind[0]
        if limit is None:
            found = self._made_sure(found)
        if len(found.slots) <= FEW:
            slots = self._sorted(found, least, highest, behind)
        else:
            slots = self._by_score(found, least, highest, behind)
        return _first(slots, limit)

    def exactly(self, query: NodeQuery) -> BitMap:
        """All slots that match."""
        slots = self._made_sure(self._found(query)).slots
        least = least_hundredths(query.min_reputation)
        if least == 0:
            return slots
        if least * 2 <= HIGHEST_SCORE:
            return slots - BitMap.union(BitMap(), *self._scores[:least])
        return slots & BitMap.union(BitMap(), *self._scores[least:])

    def ranked(self, slots: BitMap, limit: Optional[int]) -> list[int]:
        """The first `limit` of `slots`, best score first, then in order of registration."""
        found = Found(slots)
        few = len(slots) <= FEW
        return _first((self._sorted if few else self._by_score)(found, 0, HIGHEST_SCORE, None), limit)

    def count(self, query: NodeQuery) -> int:
        """The number of slots that match."""
        return len(self.exactly(query))

    def _found(self, query: NodeQuery) -> Found:
        found = Found(self._all)
        wanted_by_field = query.__dict__
        for field, default, narrow in _NARROWED:
            wanted = wanted_by_field[field]
            if wanted is not default and wanted != default:
                narrow(self, wanted, found)
        within = found.within
        if len(within) > 1:
            within.sort(key=len)  # smallest first, so that intermediate results are small
            slots = within[0] & within[1]
            for bitmap in within[2:]:
                slots &= bitmap
        else:
            slots = (within[0] if within else self._all).copy()
        for bitmap in found.without:
            slots -= bitmap
        found.slots = slots
        return found

    def _only_healthy(self, _wanted: bool, found: Found) -> None:
        found.within.append(self._ready)

    def _min_capabilities(self, wanted: NodeCapabilities, found: Found) -> None:
        leasts = (wanted.cpu_cores, wanted.memory_gb, wanted.storage_gb)
        for (ladder, values), least in zip(self._ladders(), leasts):
            if least > 0:
                rung = ladder.rung(least)
                if rung is None:
                    found.unsure.append((values, least, ladder.surely_reached(least)))
                    continue
                found.within.append(rung.reach)
                if rung.surely is not None:
                    found.unsure.append((values, least, rung.surely))
        if wanted.gpu_enabled:
            found.within.append(self._gpu_enabled)

    def _gpu_demand(self, wanted: GpuDemand, found: Found) -> None:
        if len(self._gpus) > MANY_GPU_KINDS:
            found.gpus = wanted
            return
        fitting = [having for packed, having in self._gpus.items() if has_gpus(gpu_groups(packed), wanted)]
        found.within.append(BitMap.union(BitMap(), *fitting))

    def _wallet_address(self, wanted: str, found: Found) -> None:
        found.within.append(self._labelled(label_of_wallet(wanted)))

    def _tags(self, wanted: Mapping[str, str], found: Found) -> None:
        found.within.extend(self._labelled(label_of_tag(key, value)) for key, value in wanted.items())

    def _exclude(self, wanted: Collection[str], found: Found) -> None:
        by_id = self._slots.by_id
        found.without.append(BitMap([by_id[node_id] for node_id in wanted if node_id in by_id]))

    NARROWED_BY: ClassVar[dict[str, Callable[[BitmapIndex, Any, Found], None]]] = {
        "only_healthy": _only_healthy,
        "min_capabilities": _min_capabilities,
        "gpus": _gpu_demand,
        "wallet_address": _wallet_address,
        "tags": _tags,
        "exclude": _exclude,
    }
    """The method of each condition. A missing one raises KeyError when this module is imported, see below."""

    def _made_sure(self, found: Found) -> Found:
        """The same after the remaining checks, without the slots that fail them."""
        slots = found.slots
        for values, least, surely in found.unsure:
            slots -= BitMap([slot for slot in slots - surely if values[slot] < least])  # type: ignore[index]  # an array
        if found.gpus is not None:
            packed = self._slots.gpus
            slots -= BitMap([slot for slot in slots if not has_gpus(gpu_groups(packed[slot]), found.gpus)])
        return Found(slots)

    def _fits(self, slot: int, found: Found) -> bool:
        for values, least, _surely in found.unsure:
            if values[slot] < least:  # type: ignore[index]  # an array
                return False
        return found.gpus is None or has_gpus(gpu_groups(self._slots.gpus[slot]), found.gpus)

    def _sorted(self, found: Found, least: int, highest: int, behind: Optional[tuple[int, int]]) -> Iterator[int]:
        score = self._slots.score
        ranked = sorted((-score[slot], slot) for slot in found.slots if least <= score[slot] <= highest)
        sure = not found.unsure and found.gpus is None
        for minus, slot in ranked:
            if (behind is None or (minus, slot) >= (-behind[0], behind[1])) and (sure or self._fits(slot, found)):
                yield slot

    def _by_score(self, found: Found, least: int, highest: int, behind: Optional[tuple[int, int]]) -> Iterator[int]:
        sure = not found.unsure and found.gpus is None
        place = self._scored.rfind(1, least, highest + 1)
        while place >= 0:
            having = self._scores[place] & found.slots
            if behind is not None and place == behind[0]:
                having.remove_range(0, behind[1])
            if sure:
                yield from having
            else:
                yield from (slot for slot in having if self._fits(slot, found))
            place = self._scored.rfind(1, least, place)

    def _labelled(self, label: str) -> BitMap:
        having = self._labels.get(self._slots.label_hash(label))
        if having is None:
            return BitMap()
        return having if isinstance(having, BitMap) else BitMap((having,))

    def _add_label(self, label: int, slot: int) -> None:
        having = self._labels.setdefault(label, slot)
        if isinstance(having, BitMap):
            having.add(slot)
        elif having != slot:
            self._labels[label] = BitMap((having, slot))

    def _discard_label(self, label: int, slot: int) -> None:
        having = self._labels.get(label)
        if isinstance(having, BitMap):
            having.discard(slot)
            if not having:
                del self._labels[label]
        elif having == slot:
            del self._labels[label]


def _first(slots: Iterator[int], limit: Optional[int]) -> list[int]:
    if limit is None:
        return list(slots)
    found: list[int] = []
    for slot in slots:
        if len(found) >= limit:
            break
        found.append(slot)
    return found


_NARROWED = tuple(
    (row.field, row.default, BitmapIndex.NARROWED_BY[row.field]) for row in CONDITIONS if row.narrows_index
)
