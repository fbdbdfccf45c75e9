"""Commands on their way to the disk: decided, not yet durable, not yet visible.

Here: whether commands are accepted, what they have staged, what later ones build on, batches, and the step from
"durable" to "visible". Not here: the decisions (`rules`), the queue of commits (`group_commit`), the table.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Callable, Generic, Optional, TypeVar

from registry_core.embedded.group_commit import GroupCommit
from registry_core.embedded.live_state import LiveState
from registry_core.errors import DamagedStoreError, ReadOnlyError, RegistryError, StoreError, UnknownNodeError
from registry_core.events import EventKind
from registry_core.models import limits
from registry_core.models.columns import columns_of, record_of
from registry_core.models.record import NodeRecord
from registry_core.storage.store import Bury, Change, Delete, Exhume, Put, Store
from registry_core.storage.tombstones import StoredTombstone, TombstoneKey

__all__ = ["Transactions", "UnitOfWork", "KeptInterrupts"]

V = TypeVar("V")


class UnitOfWork:
    """What becomes durable and visible together: the changes of one command, or of one batch."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.meta: dict[str, Optional[str]] = {}
        self.events: list[tuple[EventKind, str, Mapping[str, str]]] = []
        self.soft: list[Callable[[], object]] = []  # samples for nodes that only this unit makes known
        self.read: dict[str, NodeRecord] = {}  # as committed: no other unit changes them while this one decides
        self.error: Optional[RegistryError] = None
        self.depends_on: set[UnitOfWork] = set()  # units not yet durable when this one read what they changed

    def is_soft(self) -> bool:
        """Nothing of it needs the disk, and nothing that it read is still on its way there."""
        return not self.changes and not self.meta and not self.depends_on


class _InFlight(Generic[V]):
    """By key, the values that units on their way to the disk have given it, the newest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a committing thread removes without the gate
        self._values: dict[Hashable, list[tuple[UnitOfWork, V]]] = {}

    def newest(self, key: Hashable, reader: UnitOfWork) -> Optional[tuple[UnitOfWork, V]]:
        """The newest value and its unit, which `reader` depends on from now on; None where there is none."""
        with self._lock:
            values = self._values.get(key)
            found = None if values is None else values[-1]
        if found is not None and found[0] is not reader:
            reader.depends_on.add(found[0])
        return found

    def put(self, unit: UnitOfWork, key: Hashable, value: V) -> None:
        """The value that `unit` gives to `key`, in place of an earlier one of the same unit."""
        with self._lock:
            values = self._values.setdefault(key, [])
            if values and values[-1][0] is unit:
                values.pop()
            values.append((unit, value))

    def remove(self, unit: UnitOfWork, keys: Iterable[Hashable]) -> None:
        """Remove the values that `unit` has given to `keys`."""
        with self._lock:
            for key in keys:
                others = [value for value in self._values.pop(key, ()) if value[0] is not unit]
                if others:
                    self._values[key] = others


class Command:
    """`with transactions.command() as unit:`. A class, since a generator would cost three times as much."""

    __slots__ = ("_transactions", "_unit")

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def __enter__(self) -> UnitOfWork:
        self._unit = self._transactions.begin()
        return self._unit

    def __exit__(self, refusal: Optional[type[BaseException]], *_rest: object) -> None:
        if refusal is None:
            self._transactions.finish(self._unit)
        elif issubclass(refusal, RegistryError):
            self._transactions.refuse(self._unit)
        else:
            self._transactions.abandon(self._unit)


class Transactions:
    """Where commands stage their changes, on their way into the store and from there into the live state.

    `refusal`: why no call is accepted any more; None while the registry is open.
    """

    def __init__(self, store: Store, live_state: LiveState) -> None:
        self._store = store
        self._live_state = live_state
        self.refusal: Optional[RegistryError] = None
        self._gate = threading.RLock()  # one command at a time decides; a batch keeps the others out until its end
        self._records: _InFlight[Optional[NodeRecord]] = _InFlight()
        self._texts: _InFlight[Optional[str]] = _InFlight()
        self._tombstones: _InFlight[Optional[StoredTombstone]] = _InFlight()
        self._batch: Optional[UnitOfWork] = None
        self._batch_owner: Optional[int] = None
        self.group: GroupCommit[UnitOfWork] = GroupCommit(self._commit)
        self._disk = threading.Lock()  # one commit, sample save or refresh at a time

    def before_call(self) -> None:
        """What every call does first: a reader reads what its writer committed, and time does its work."""
        if self.refusal is not None:
            raise self.refusal
        if self._store.read_only:
            self.refresh()
        self._live_state.catch_up()

    def before_change(self) -> None:
        """What every call that changes something does first. Raises ReadOnlyError for a reader."""
        if self.refusal is not None:
            raise self.refusal
        if self._store.read_only:
            raise ReadOnlyError(f"{self._store.location} was opened with read_only=True; nothing can be changed")
        self._live_state.catch_up()

    def refresh(self) -> None:
        """Read the store anew where another process, or a person, changed it."""
        if self.refusal is not None:
            raise self.refusal
        with self._gate, self._disk:  # a command that found half a table would take a known node for a newcomer
            if self._store.refresh():
                self._live_state.load()

    def command(self) -> Command:
        """Stage one command; leaves when it is durable and visible. Inside a batch, when it is staged."""
        return Command(self)

    def begin(self) -> UnitOfWork:
        """Close the gate and decide; `finish`, `refuse` or `abandon` must follow, in this thread."""
        self.before_change()
        self._gate.acquire()
        return self._batch or UnitOfWork()  # a batch that is open is ours: others wait at the gate

    def abandon(self, unit: UnitOfWork) -> None:
        """Forget what the command staged. A batch keeps it until its own end."""
        if unit is not self._batch:
            self._forget(unit)
        self._gate.release()

    def refuse(self, unit: UnitOfWork) -> None:
        """As `abandon`, for a command that was refused before it staged anything.

        Returns when what it was refused for is durable, and raises the error if that fails.
        """
        if unit is self._batch or not unit.depends_on:
            self.abandon(unit)
            return
        self._forget(unit)
        read_only = UnitOfWork()
        read_only.depends_on = unit.depends_on
        self.finish(read_only)

    def finish(self, unit: UnitOfWork) -> None:
        """Open the gate and wait until the unit is durable."""
        try:
            if unit is self._batch:
                return
            if unit.is_soft():
                self._make_visible(unit)
                return
            stack = ExitStack()
            stack.enter_context(KeptInterrupts())
            ticket = self.group.enqueue(unit)
        except BaseException:  # Ctrl-C, before it was kept for later
            self._forget(unit)
            raise
        finally:
            self._gate.release()
        with stack:
            self.group.wait(ticket)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Many commands, one commit. An exception inside drops them all; a batch within a batch belongs to it."""
        self.before_change()
        with ExitStack() as stack:
            with self._gate:
                if self._batch is not None:
                    yield
                    return
                unit = self._batch = UnitOfWork()
                self._batch_owner = threading.get_ident()
                try:
                    yield
                except BaseException:
                    self._forget(unit)
                    raise
                finally:
                    self._batch = self._batch_owner = None
                if unit.is_soft():
                    self._make_visible(unit)
                    return
                stack.enter_context(KeptInterrupts())
                ticket = self.group.enqueue(unit)
            self.group.wait(ticket)

    def save_samples(self) -> None:
        """Write the newest samples and who is down. Durable when it returns."""
        samples = self._live_state.unsaved()
        try:  # where there is none, too: others may still be on their way
            with self._disk:
                self._store.save_samples(samples, wait=True)
        except BaseException:
            self._live_state.not_saved(samples)
            raise

    def close(self) -> None:
        """Let go of the store, once a commit of another thread has ended."""
        with self._disk:
            self._store.close()

    def own_batch(self) -> Optional[UnitOfWork]:
        """The batch that the calling thread has open, if any."""
        batch = self._batch
        return batch if batch is not None and self._batch_owner == threading.get_ident() else None

    def record(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """The newest record: staged by an earlier command, else as committed, which is read once for each unit."""
        staged = self._records.newest(node_id, unit)
        if staged is not None:
            return staged[1]
        record = unit.read.get(node_id)
        if record is None and self._live_state.knows(
            node_id
        ):  # what is not staged is visible, and the table is cheap to ask
            record = self._store.read(node_id)
            if record is not None:
                unit.read[node_id] = record
        return record

    def existing(self, node_id: object, unit: UnitOfWork, *, damaged_too: bool = False) -> NodeRecord:
        """As `record`, or UnknownNodeError. `damaged_too`: what is left of one that cannot be read."""
        find = self.remains if damaged_too else self.record
        record = find(limits.lookup_key(node_id), unit)
        if record is None:
            raise UnknownNodeError(node_id if isinstance(node_id, str) else repr(node_id))
        return record

    def text(self, name: str, unit: UnitOfWork) -> Optional[str]:
        """The newest text of the store's `meta`: staged by an earlier command, else as committed."""
        staged = self._texts.newest(name, unit)
        return self._store.meta(name) if staged is None else staged[1]

    def tombstone(self, key: TombstoneKey, unit: UnitOfWork) -> Optional[StoredTombstone]:
        """The newest tombstone of this key: staged by an earlier command, else as committed."""
        staged = self._tombstones.newest(key, unit)
        return self._store.tombstone(key) if staged is None else staged[1]

    def remains(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """As `record`; of a record that is damaged, what its columns say: for who takes it out or writes it anew."""
        try:
            return self.record(node_id, unit)
        except DamagedStoreError as error:
            return self._columns_left(node_id, error)

    def _columns_left(self, node_id: str, error: DamagedStoreError) -> NodeRecord:
        columns = self._store.columns(node_id) if error.node_id == node_id else None
        if columns is None:
            raise error
        return record_of(columns)

    def visible_record(self, node_id: object) -> Optional[NodeRecord]:
        """The record as committed; inside the calling thread's own batch, as the next change of the batch finds it."""
        key = limits.lookup_key(node_id)
        batch = self.own_batch()
        return self._store.read(key) if batch is None else self.record(key, batch)

    def visible_tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """As committed; inside the calling thread's own batch, as the next change of the batch finds it."""
        batch = self.own_batch()
        return self._store.tombstone(key) if batch is None else self.tombstone(key, batch)

    def visible_remains(self, node_id: object) -> Optional[NodeRecord]:
        """As `visible_record`; of a record that is damaged, what its columns say."""
        try:
            return self.visible_record(node_id)
        except DamagedStoreError as error:
            return self._columns_left(limits.lookup_key(node_id), error)

    def staged(self, node_id: str, unit: UnitOfWork) -> Optional[tuple[UnitOfWork, Optional[NodeRecord]]]:
        """The newest record that `unit`, or one before it that is not durable yet, has staged for the node, if any."""
        return self._records.newest(node_id, unit)

    def put(self, unit: UnitOfWork, record: NodeRecord) -> None:
        """Stage a record."""
        unit.changes.append(Put(record, columns_of(record)))
        self._records.put(unit, record.node.id, record)

    def delete(self, unit: UnitOfWork, node_id: str) -> None:
        """Stage a removal."""
        unit.changes.append(Delete(node_id))
        self._records.put(unit, node_id, None)

    def bury(self, unit: UnitOfWork, tombstone: StoredTombstone) -> None:
        """Stage a tombstone."""
        unit.changes.append(Bury(tombstone))
        self._tombstones.put(unit, tombstone.key, tombstone)

    def exhume(self, unit: UnitOfWork, key: TombstoneKey) -> None:
        """Stage that there is no tombstone of this key any more."""
        unit.changes.append(Exhume(key))
        self._tombstones.put(unit, key, None)

    def put_text(self, unit: UnitOfWork, name: str, text: Optional[str]) -> None:
        """Stage a text of the store's `meta`; None removes it."""
        unit.meta[name] = text
        self._texts.put(unit, name, text)

    def _commit(self, units: Sequence[UnitOfWork]) -> None:
        try:
            for unit in units:
                for depends_on in unit.depends_on:
                    if depends_on.error is not None:
                        raise depends_on.error
            changes = [change for unit in units for change in unit.changes]
            texts = {name: text for unit in units for name, text in unit.meta.items()}
            if changes or texts:  # else they only waited for what they had read
                with self._disk:
                    self._store.commit(changes, {**self._live_state.meta(), **texts})
        except RegistryError as error:
            if len(units) == 1:  # several are tried again one by one
                self._settle(units[0], error)
            raise
        except BaseException as error:
            for unit in units:
                self._settle(unit, StoreError(self._store.location, f"an earlier change was interrupted: {error!r}"))
            raise
        for unit in units:
            self._make_visible(unit)
            self._settle(unit, None)

    def _make_visible(self, unit: UnitOfWork) -> None:
        with self._live_state.locked():
            self._live_state.apply(unit.changes, unit.events)
            for report in unit.soft:
                report()

    def _settle(self, unit: UnitOfWork, error: Optional[RegistryError]) -> None:
        unit.error = error
        unit.depends_on.clear()  # else each unit would keep all before it
        self._forget(unit)

    def _forget(self, unit: UnitOfWork) -> None:
        """It is durable, failed or dropped: what it staged is in flight no more."""
        nodes: list[str] = []
        tombstones: list[TombstoneKey] = []
        for change in unit.changes:
            if isinstance(change, Put):
                nodes.append(change.columns.node_id)
            elif isinstance(change, Delete):
                nodes.append(change.node_id)
            else:
                tombstones.append(change.tombstone.key if isinstance(change, Bury) else change.key)
        self._records.remove(unit, nodes)
        self._tombstones.remove(unit, tombstones)
        self._texts.remove(unit, unit.meta)
        unit.read.clear()


class KeptInterrupts:
    """`with KeptInterrupts():` Ctrl-C within raises KeyboardInterrupt at the end. Some 10 µs, on the main thread only.

    A handler of the host's own is left alone: those of asyncio and of our processes do not raise.
    """

    __slots__ = ("_came", "_keeps")

    def __enter__(self) -> None:
        self._came = False
        main = threading.current_thread() is threading.main_thread()
        self._keeps = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._keeps:
            signal.signal(signal.SIGINT, self._keep)

    def __exit__(self, *_error: object) -> None:
        if self._keeps:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._came:
            raise KeyboardInterrupt

    def _keep(self, *_signal: object) -> None:
        self._came = True
