"""Commands that are decided but neither durable nor visible yet.

This module accepts commands, stages their changes, lets later commands build on staged ones, and makes changes visible
once they are durable. Decisions are made in `rules`; commits are queued in `group_commit`.
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
    """The changes of one command or one batch, which become durable and visible together."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.meta: dict[str, Optional[str]] = {}
        self.events: list[tuple[EventKind, str, Mapping[str, str]]] = []
        self.soft: list[Callable[[], object]] = []  # samples of nodes that this unit registers
        self.read: dict[str, NodeRecord] = {}  # committed records, which no other unit changes while this one decides
        self.error: Optional[RegistryError] = None
        self.depends_on: set[UnitOfWork] = set()  # units that were not durable when this one read their changes

    def is_soft(self) -> bool:
        """Whether the unit writes nothing and depends on no unit that is not durable yet."""
        return not self.changes and not self.meta and not self.depends_on


class _InFlight(Generic[V]):
    """The staged values of each key, newest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a committing thread removes values without holding the gate
        self._values: dict[Hashable, list[tuple[UnitOfWork, V]]] = {}

    def newest(self, key: Hashable, reader: UnitOfWork) -> Optional[tuple[UnitOfWork, V]]:
        """The newest value and its unit, on which `reader` depends from now on; None if there is no value."""
        with self._lock:
            values = self._values.get(key)
            found = None if values is None else values[-1]
        if found is not None and found[0] is not reader:
            reader.depends_on.add(found[0])
        return found

    def put(self, unit: UnitOfWork, key: Hashable, value: V) -> None:
        """Stage a value; it replaces an earlier one of the same unit."""
        with self._lock:
            values = self._values.setdefault(key, [])
            if values and values[-1][0] is unit:
                values.pop()
            values.append((unit, value))

    def remove(self, unit: UnitOfWork, keys: Iterable[Hashable]) -> None:
        """Remove the values that `unit` has staged for `keys`."""
        with self._lock:
            for key in keys:
                others = [value for value in self._values.pop(key, ()) if value[0] is not unit]
                if others:
                    self._values[key] = others


class Command:
    """`with transactions.command() as unit:`. A class, because a generator takes three times as long."""

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
    """Takes the changes of commands into the store and then into the live state.

    `refusal` is the error that every call raises once the registry is closed; None while it is open.
    """

    def __init__(self, store: Store, live_state: LiveState) -> None:
        self._store = store
        self._live_state = live_state
        self.refusal: Optional[RegistryError] = None
        self._gate = threading.RLock()  # one command decides at a time; a batch holds it until its end
        self._records: _InFlight[Optional[NodeRecord]] = _InFlight()
        self._texts: _InFlight[Optional[str]] = _InFlight()
        self._tombstones: _InFlight[Optional[StoredTombstone]] = _InFlight()
        self._batch: Optional[UnitOfWork] = None
        self._batch_owner: Optional[int] = None
        self.group: GroupCommit[UnitOfWork] = GroupCommit(self._commit)
        self._disk = threading.Lock()  # one commit, sample save or refresh at a time

    def before_call(self) -> None:
        """Run before every call: a read-only registry rereads the store if it changed; timeouts are applied."""
        if self.refusal is not None:
            raise self.refusal
        if self._store.read_only:
            self.refresh()
        self._live_state.catch_up()

    def before_change(self) -> None:
        """Run before every call that changes something. Raises ReadOnlyError for a read-only registry."""
        if self.refusal is not None:
            raise self.refusal
        if self._store.read_only:
            raise ReadOnlyError(f"{self._store.location} is open for reading only; nothing can be changed")
        self._live_state.catch_up()

    def refresh(self) -> None:
        """Reread the store if another process or a person changed it."""
        if self.refusal is not None:
            raise self.refusal
        with self._gate, self._disk:  # a command must not see a partly loaded table
            if self._store.refresh():
                self._live_state.load()

    def command(self) -> Command:
        """A context that stages one command and exits once it is durable and visible; in a batch, once it is staged."""
        return Command(self)

    def begin(self) -> UnitOfWork:
        """Acquire the gate; `finish`, `refuse` or `abandon` must follow in this thread."""
        self.before_change()
        self._gate.acquire()
        return self._batch or UnitOfWork()  # an open batch is this thread's: other threads wait for the gate

    def abandon(self, unit: UnitOfWork) -> None:
        """Drop what the command staged. In a batch it is kept until the batch ends."""
        if unit is not self._batch:
            self._forget(unit)
        self._gate.release()

    def refuse(self, unit: UnitOfWork) -> None:
        """Abandon a command that was refused before it staged anything.

        Returns once the changes that led to the refusal are durable, or raises the error of their commit.
        """
        if unit is self._batch or not unit.depends_on:
            self.abandon(unit)
            return
        self._forget(unit)
        read_only = UnitOfWork()
        read_only.depends_on = unit.depends_on
        self.finish(read_only)

    def finish(self, unit: UnitOfWork) -> None:
        """Release the gate and wait until the unit is durable."""
        try:
            if unit is self._batch:
                return
            if unit.is_soft():
                self._make_visible(unit)
                return
            stack = ExitStack()
            stack.enter_context(KeptInterrupts())
            ticket = self.group.enqueue(unit)
        except BaseException:  # Ctrl-C before it is deferred
            self._forget(unit)
            raise
        finally:
            self._gate.release()
        with stack:
            self.group.wait(ticket)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Combine many commands into one commit. An exception drops all of them; a nested batch joins the outer one."""
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
        """Write the newest samples and the list of down nodes. Durable when it returns."""
        samples = self._live_state.unsaved()
        try:  # even without samples: earlier ones may not be durable yet
            with self._disk:
                self._store.save_samples(samples, wait=True)
        except BaseException:
            self._live_state.not_saved(samples)
            raise

    def close(self) -> None:
        """Close the store after the current commit has ended."""
        with self._disk:
            self._store.close()

    def own_batch(self) -> Optional[UnitOfWork]:
        """The calling thread's open batch, if any."""
        batch = self._batch
        return batch if batch is not None and self._batch_owner == threading.get_ident() else None

    def record(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """The newest record: staged by an earlier command, otherwise as committed, read once per unit."""
        staged = self._records.newest(node_id, unit)
        if staged is not None:
            return staged[1]
        record = unit.read.get(node_id)
        if record is None and self._live_state.knows(node_id):  # a look at the table is cheaper than a read
            record = self._store.read(node_id)
            if record is not None:
                unit.read[node_id] = record
        return record

    def existing(self, node_id: object, unit: UnitOfWork, *, damaged_too: bool = False) -> NodeRecord:
        """As `record`, but raises UnknownNodeError. `damaged_too`: use `remains` for a damaged record."""
        find = self.remains if damaged_too else self.record
        record = find(limits.lookup_key(node_id), unit)
        if record is None:
            raise UnknownNodeError(node_id if isinstance(node_id, str) else repr(node_id))
        return record

    def text(self, name: str, unit: UnitOfWork) -> Optional[str]:
        """The newest text in the store's `meta`: staged by an earlier command, otherwise as committed."""
        staged = self._texts.newest(name, unit)
        return self._store.meta(name) if staged is None else staged[1]

    def tombstone(self, key: TombstoneKey, unit: UnitOfWork) -> Optional[StoredTombstone]:
        """The newest tombstone of this key: staged by an earlier command, otherwise as committed."""
        staged = self._tombstones.newest(key, unit)
        return self._store.tombstone(key) if staged is None else staged[1]

    def remains(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """As `record`; for a damaged record, what its columns hold, so that it can be removed or rewritten."""
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
        """The record as committed; inside the calling thread's batch, as the batch has changed it."""
        key = limits.lookup_key(node_id)
        batch = self.own_batch()
        return self._store.read(key) if batch is None else self.record(key, batch)

    def visible_tombstone(self, key: TombstoneKey) -> Optional[StoredTombstone]:
        """The tombstone as committed; inside the calling thread's batch, as the batch has changed it."""
        batch = self.own_batch()
        return self._store.tombstone(key) if batch is None else self.tombstone(key, batch)

    def visible_remains(self, node_id: object) -> Optional[NodeRecord]:
        """As `visible_record`; for a damaged record, what its columns hold."""
        try:
            return self.visible_record(node_id)
        except DamagedStoreError as error:
            return self._columns_left(limits.lookup_key(node_id), error)

    def staged(self, node_id: str, unit: UnitOfWork) -> Optional[tuple[UnitOfWork, Optional[NodeRecord]]]:
        """The newest record staged for the node by `unit` or an earlier unit that is not durable yet, if any."""
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
        """Stage the removal of a tombstone."""
        unit.changes.append(Exhume(key))
        self._tombstones.put(unit, key, None)

    def put_text(self, unit: UnitOfWork, name: str, text: Optional[str]) -> None:
        """Stage a text for the store's `meta`; None removes it."""
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
            if changes or texts:  # otherwise the units only wait for units they depend on
                with self._disk:
                    self._store.commit(changes, {**self._live_state.meta(), **texts})
        except RegistryError as error:
            if len(units) == 1:  # several units are retried one by one
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
        unit.depends_on.clear()  # otherwise each unit would keep all earlier ones in memory
        self._forget(unit)

    def _forget(self, unit: UnitOfWork) -> None:
        """Remove the staged values of a unit that is durable, failed or dropped."""
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
    """`with KeptInterrupts():` defers Ctrl-C: KeyboardInterrupt is raised at the end of the block.

    Works on the main thread and takes about 10 µs. Signal handlers other than Python's default are left in place: those
    of asyncio and of our processes do not raise.
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
