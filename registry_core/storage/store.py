"""What every store promises, so that the registry never asks which one it has.

Here: the abstract class whose docstrings state all that a caller may rely on, and the values that pass through
it. Not here: rules, indexes, caches of snapshots, sharing of commits (`group_commit`).
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
    """Keep this record under its node's id, in place of an older one. `columns` follow from it."""

    record: NodeRecord
    columns: Columns


class Delete(NamedTuple):
    """Keep nothing of this node, its sample included. No error when there is nothing."""

    node_id: str


class Bury(NamedTuple):
    """Keep this tombstone, in place of an earlier one of its key."""

    tombstone: StoredTombstone


class Exhume(NamedTuple):
    """Keep no tombstone under this key. No error when there is none."""

    key: TombstoneKey


Change = Union[Put, Delete, Bury, Exhume]
Unreadable = Callable[[DamagedStoreError], object]


class Row(NamedTuple):
    """What a start reads of one node: the indexed columns, and the last sample that was saved, if any.

    `is_down`: it was down when its sample was last saved. Says nothing of a node that left since.
    """

    columns: Columns
    sample: Optional[NodeHealth]
    is_down: bool = False


class ChangedSince(NamedTuple):
    """Nodes that were put, in order of registration, and nodes that were removed and are not there now."""

    put: list[str]
    removed: list[str]


class Store(ABC):
    """Where the registry's records are kept.

    **Opening.** The constructor opens: it takes the writer's lock unless `read_only`, makes missing parent
    folders (0700), reads and checks what is there. It raises StoreInUseError while another writer has the lock,
    DamagedStoreError, UnsupportedSchemaError or StoreError; then nothing on disk was changed and nothing stays
    open. What is absent is an empty registry for a writer, and a StoreError for a reader. The writer's lock ends
    with the process, however it ends. Any number of readers may open beside a writer.

    **Threads.** One call of `commit`, `save_samples`, `refresh` or `close` at a time: the caller sees to it. `read`,
    `read_many`, `tombstone` and `meta` may run in any thread at any time, during a commit too, and then see the state
    before it or the state after it, never a mixture within one record.

    **Order.** `rows` gives nodes by rising `Columns.sequence`.

    **Errors.** Trouble with disk or file is a StoreError naming the path, never a bare OSError. Calls after `close`
    are the caller's mistake.
    """

    location: str
    """How messages name this store: its path, or a word for a store without one."""

    read_only: bool

    soft_save_seconds: Optional[float] = None
    """How often samples should be handed to `save_samples` unasked; None: only when the registry saves or closes."""

    lazy: bool = False
    """True when `read` costs more than a look-up in memory, so that a cache in front of it pays."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Every node's columns and last saved sample, in order of registration. Decodes no records.

        Called once after opening and once after each `refresh` that said True, before any commit.
        """

    @abstractmethod
    def read(self, node_id: str, sequence: Optional[int] = None) -> Optional[NodeRecord]:
        """The record as last committed, or None. A record that was damaged since is a DamagedStoreError.

        `sequence` (of the node's columns, where the caller has it at hand) can spare the store a look-up; one that
        is out of date changes nothing in the answer.
        """

    @abstractmethod
    def read_many(self, node_ids: Sequence[str], unreadable: Optional[Unreadable] = None) -> list[Optional[NodeRecord]]:
        """`read` for each id, in the order given; None where there is nothing.

        `unreadable` is called with the error of each record that is damaged, for which the answer is None; without it
        the first such error is raised.
        """

    @abstractmethod
    def columns(self, node_id: str) -> Optional[Columns]:
        """The node's columns as last committed, or None. Whatever its record holds: that is not looked at."""

    @abstractmethod
    def meta(self, key: str) -> Optional[str]:
        """A small text that belongs to the registry as a whole, as last committed, or None."""

    @abstractmethod
    def all_meta(self) -> dict[str, str]:
        """Every text that `meta` knows, by key: what moves with the registry to another store."""

    @abstractmethod
    def tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """The tombstone as last committed, or None. One that was damaged is a DamagedStoreError."""

    @abstractmethod
    def tombstones(self) -> Iterator[StoredTombstone]:
        """Every tombstone that says more than that a node was removed, the oldest first."""

    def last_change(self) -> int:
        """The number of the last commit; 0 where commits are not numbered."""
        return 0

    def changed_since(self, change: int) -> Optional[ChangedSince]:  # noqa: ARG002 - see below
        """What the commits behind this one changed. None where that is not known: then everything may have changed."""
        return None

    def state_sum(self) -> Optional[str]:
        """The keyed sum over all records and tombstones as last committed, in hexadecimal digits.

        It depends on nothing but them and the key. None for a store without one: a JSON file is for people's hands.
        """
        return None

    def label_key(self) -> Optional[bytes]:
        """The key of the hashes of labels in memory, where the store keeps one: the same at each opening."""
        return None

    @abstractmethod
    def commit(self, changes: Sequence[Change], meta: Mapping[str, Optional[str]]) -> None:
        """Make `changes` (in this order; a later one on the same id wins) and `meta` (None removes) lasting.

        All or nothing: after an error or a crash at any instant, a later opening sees either none or all of it.
        Durable when it returns: power loss included, for a store that has a place. May be called with many
        changes and must then cost about one disk flush. Raises StoreError; the state is then as before the call
        and the next commit may be tried. Raises ReadOnlyError when opened with `read_only`.

        A `Put` keeps the node's saved sample and `is_down`; a `Delete` followed by a `Put` starts without them.
        Tombstones beyond their bounds (`tombstones.MOST_KEPT`) go in the same commit, the oldest first.
        """

    @abstractmethod
    def save_samples(self, samples: Iterable[Sampled], *, wait: bool) -> None:
        """Keep the newest sample of these nodes, and whether they are down; ids that are unknown are skipped.

        With `wait` as durable as a commit when it returns; without it the store writes later, in a thread of its
        own, and must not make the caller wait for the disk: such a call may come while a commit runs. `samples`
        is read before the call returns.
        Samples come back from `rows` without their conditions: those are judged anew.
        """

    @abstractmethod
    def refresh(self) -> bool:
        """True when another process committed since this store last read; `rows`, `read` and `meta` show it now.

        For a reader: cheap enough for every call of the registry. A writer's store changes under nobody else's
        hand but a person's: `refresh` then reads the file again when it was edited.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what is being written, release the lock and all handles. Closing twice is no error."""
