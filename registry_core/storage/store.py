"""The interface of all stores, and the values that pass through it.

The docstrings of `Store` state everything that a caller may rely on. Indexes, caches and the sharing of commits are
in `embedded`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional, Union

from registry_core.errors import DamagedStoreError
from registry_core.models.columns import Columns
from registry_core.models.record import NodeRecord
from registry_core.models.status import NodeHealth, Sampled
from registry_core.storage.tombstones import StoredTombstone, TombstoneKey

__all__ = ["Bury", "Change", "ChangedSince", "Delete", "Exhume", "Put", "Row", "Store", "Unreadable"]


class Put(NamedTuple):
    """Store this record under its node's id, replacing an older one. `columns` follow from the record."""

    record: NodeRecord
    columns: Columns


class Delete(NamedTuple):
    """Remove this node's record and sample. No error when there is none."""

    node_id: str


class Bury(NamedTuple):
    """Store this tombstone, replacing an earlier one of its key."""

    tombstone: StoredTombstone


class Exhume(NamedTuple):
    """Remove the tombstone of this key. No error when there is none."""

    key: TombstoneKey


Change = Union[Put, Delete, Bury, Exhume]
Unreadable = Callable[[DamagedStoreError], object]


class Row(NamedTuple):
    """What a start reads of one node: the indexed columns, and the last saved sample, if any.

    `is_down`: the node was down when its sample was last saved. It means nothing for a node that left since.
    """

    columns: Columns
    sample: Optional[NodeHealth]
    is_down: bool = False


class ChangedSince(NamedTuple):
    """Nodes that were stored, in order of registration, and nodes that were removed and do not exist now."""

    put: list[str]
    removed: list[str]


class Store(ABC):
    """Stores the registry's records.

    **Opening.** The constructor opens the store: it takes the writer's lock unless `read_only`, makes missing parent
    folders (mode 0700), and reads and checks what exists. It raises StoreInUseError while another writer holds the
    lock, DamagedStoreError, UnsupportedSchemaError or StoreError; then nothing on disk was changed and nothing stays
    open. A path where nothing exists is an empty registry for a writer, and a StoreError for a reader. The writer's
    lock ends with the process, however it ends. Any number of readers may be open beside a writer.

    **Threads.** The caller makes only one call of `commit`, `save_samples`, `refresh` or `close` at a time. `read`,
    `read_many`, `tombstone` and `meta` may run in any thread at any time, also during a commit; they see the state
    before it or the state after it, never a mixture within one record.

    **Order.** `rows` yields nodes by rising `Columns.sequence`.

    **Errors.** Errors of disk or file are StoreErrors naming the path, never a bare OSError. Calls after `close` are
    not allowed.
    """

    location: str
    """The name of this store in messages: its path, or a word for a store without one."""

    read_only: bool

    soft_save_seconds: Optional[float] = None
    """How often the registry should call `save_samples`; None: only when it saves or closes."""

    lazy: bool = False
    """True when `read` costs more than a look-up in memory, so that a cache in front of it is worthwhile."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Every node's columns and last saved sample, in order of registration. Decodes no records.

        Called once after opening and once after each `refresh` that returned True, before any commit.
        """

    @abstractmethod
    def read(self, node_id: str, sequence: Optional[int] = None) -> Optional[NodeRecord]:
        """The record as last committed, or None. Raises DamagedStoreError for a damaged record.

        `sequence` (of the node's columns, if the caller has it) can save the store a look-up; an outdated one does not
        change the result.
        """

    @abstractmethod
    def read_many(self, node_ids: Sequence[str], unreadable: Optional[Unreadable] = None) -> list[Optional[NodeRecord]]:
        """The result of `read` for each id, in the order given.

        `unreadable` is called with the error of each damaged record, whose result is then None; without it the first
        such error is raised.
        """

    @abstractmethod
    def columns(self, node_id: str) -> Optional[Columns]:
        """The node's columns as last committed, or None. The record itself is not read."""

    @abstractmethod
    def meta(self, key: str) -> Optional[str]:
        """A short text that belongs to the registry as a whole, as last committed, or None."""

    @abstractmethod
    def all_meta(self) -> dict[str, str]:
        """Every text of `meta` by key: those that move with the registry to another store."""

    @abstractmethod
    def tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """The tombstone as last committed, or None. Raises DamagedStoreError for a damaged one."""

    @abstractmethod
    def tombstones(self) -> Iterator[StoredTombstone]:
        """Every tombstone that records more than the removal itself, oldest first."""

    def last_change(self) -> int:
        """The number of the last commit; 0 if commits are not numbered."""
        return 0

    def changed_since(self, change: int) -> Optional[ChangedSince]:  # noqa: ARG002 - see below
        """What the commits after this one changed. None when that is unknown: then everything may have changed."""
        return None

    def state_sum(self) -> Optional[str]:
        """The keyed sum over all records and tombstones as last committed, in hexadecimal digits.

        It depends only on them and the key. None for a store without one, such as a JSON file, which people may edit.
        """
        return None

    def label_key(self) -> Optional[bytes]:
        """The key for hashing labels in memory, if the store has one: the same at each opening."""
        return None

    @abstractmethod
    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """Make `changes` (in this order; the last one for an id counts) and `meta` (None removes a key) durable.

        Atomic: after an error or a crash at any instant, a later opening sees either none or all of the changes.
        When it returns, the changes survive a power loss, if the store has a file. Many changes cost about one disk
        flush together. Raises StoreError, and then the state is as before the call and the next commit may succeed.
        Raises ReadOnlyError for a store opened with `read_only`.

        A `Put` keeps the node's saved sample and `is_down`; a `Delete` followed by a `Put` starts without them.
        Tombstones beyond their limits (`tombstones.MOST_KEPT`) are removed in the same commit, oldest first.
        """

    @abstractmethod
    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:
        """Store the newest sample of these nodes, and whether they are down; skips unknown ids.

        With `wait`, the samples are as durable as a commit when it returns. Without it the store writes later, in its
        own thread, and the caller never waits for the disk; such a call may come while a commit runs. `samples` is
        read before the call returns. `rows` returns samples without their conditions: those are evaluated again.
        """

    @abstractmethod
    def refresh(self) -> bool:
        """True when another process committed since this store last read; `rows`, `read` and `meta` show it now.

        For a reader this is cheap enough for every call of the registry. Only a person who edits the file can change
        a writer's store: `refresh` then reads the file again.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish pending writes, then release the lock and all handles. May be called twice."""
