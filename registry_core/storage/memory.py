"""A store in memory: everything is lost with the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional

from registry_core.models.columns import Columns
from registry_core.models.record import NodeRecord
from registry_core.models.status import Sampled
from registry_core.storage.store import Bury, Change, Delete, Put, Row, Store, Unreadable
from registry_core.storage.tombstones import HeldTombstones, StoredTombstone, TombstoneKey

__all__ = ["MemoryStore"]


class MemoryStore(Store):
    """Records in dictionaries."""

    location = "memory"
    read_only = False

    def __init__(self) -> None:
        self._puts: dict[str, Put] = {}
        self._samples: dict[str, Sampled] = {}
        self._meta: dict[str, str] = {}
        self._tombstones = HeldTombstones()

    def rows(self) -> Iterator[Row]:
        """In order of registration."""
        ordered = sorted(self._puts.items(), key=lambda item: item[1].columns.sequence)
        return iter([self._row(put, self._samples.get(node_id)) for node_id, put in ordered])

    @staticmethod
    def _row(put: Put, kept: Optional[Sampled]) -> Row:
        return Row(put.columns, None) if kept is None else Row(put.columns, kept.health, kept.is_down)

    def read(self, node_id: str, sequence: Optional[int] = None) -> Optional[NodeRecord]:  # noqa: ARG002 - no need of it
        """One look-up."""
        put = self._puts.get(node_id)
        return None if put is None else put.record

    def read_many(
        self,
        node_ids: Sequence[str],
        unreadable: Optional[Unreadable] = None,  # noqa: ARG002 - none is damaged
    ) -> list[Optional[NodeRecord]]:
        """One look-up each."""
        return [self.read(node_id) for node_id in node_ids]

    def columns(self, node_id: str) -> Optional[Columns]:
        """One look-up."""
        put = self._puts.get(node_id)
        return None if put is None else put.columns

    def meta(self, key: str) -> Optional[str]:
        """One look-up."""
        return self._meta.get(key)

    def all_meta(self) -> dict[str, str]:
        """A copy."""
        return dict(self._meta)

    def tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """One look-up."""
        return self._tombstones.get(key)

    def tombstones(self) -> Iterator[StoredTombstone]:
        """All of them."""
        return iter(self._tombstones)

    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """Durable as long as the process lives."""
        for change in changes:
            if isinstance(change, Put):
                self._puts[change.columns.node_id] = change
            elif isinstance(change, Delete):
                self._puts.pop(change.node_id, None)
                self._samples.pop(change.node_id, None)
            elif isinstance(change, Bury):
                self._tombstones.put(change.tombstone)
            else:
                self._tombstones.remove(change.key)
        for key, value in meta.items():
            if value is None:
                self._meta.pop(key, None)
            else:
                self._meta[key] = value

    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:  # noqa: ARG002 - nothing to wait for
        """Durable as long as the process lives."""
        for sample in samples:
            if sample.node_id in self._puts:
                self._samples[sample.node_id] = sample

    def refresh(self) -> bool:
        """No other process can change it."""
        return False

    def close(self) -> None:
        """Nothing to release."""
