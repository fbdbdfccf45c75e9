"""Commands on their way to the disk: decided, not yet durable, not yet visible.

Here: what a command has staged, what later commands build on, batches, and the step from "durable" to
"visible". Not here: the decisions (`rules`), the queue of commits (`storage.group_commit`), the table.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Callable, Optional

from registry_core.embedded.group_commit import GroupCommit
from registry_core.errors import DamagedStoreError, RegistryError
from registry_core.events import EventKind
from registry_core.models.columns import columns_of, record_of
from registry_core.models.record import NodeRecord
from registry_core.storage.store import Change, Delete, Put, Store

__all__ = ["Transactions", "UnitOfWork", "KeptInterrupts"]


class UnitOfWork:
    """What becomes durable and visible together: the changes of one command, or of one batch."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.meta: dict[str, Optional[str]] = {}
        self.events: list[tuple[EventKind, str, Mapping[str, str]]] = []
        self.soft: list[Callable[[], object]] = []  # samples for nodes that only this unit makes known
        self.error: Optional[RegistryError] = None
        self.settled = False  # durable or failed
        self.dropped = False  # refused, or its batch was
        self.depends_on: set[UnitOfWork] = set()  # units not yet durable whose records this one changed further

    def is_soft(self) -> bool:
        """Nothing of it needs the disk, and nothing that it read is still on its way there."""
        return not self.changes and not self.meta and not self.depends_on


class Command:
    """`with staging.command() as unit:`. A class, since a generator would cost three times as much."""

    __slots__ = ("_transactions", "_unit")

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def __enter__(self) -> UnitOfWork:
        self._unit = self._transactions.begin()
        return self._unit

    def __exit__(self, refusal: Optional[type[BaseException]], *_rest: object) -> None:
        if refusal is None:
            self._transactions.finish(self._unit)
        else:
            self._transactions.abandon(self._unit)


class Transactions:
    """Where commands stage their changes. `make_visible` is called with each unit once it is durable; `knows` says
    of an id whether a visible node has it.
    """

    def __init__(
        self,
        store: Store,
        make_visible: Callable[[UnitOfWork], None],
        meta: Callable[[], Mapping[str, str]],
        knows: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._make_visible = make_visible
        self._meta = meta
        self._knows = knows
        self._gate = threading.RLock()  # one command at a time decides; a batch keeps the others out until its end
        self._guard = threading.Lock()  # for _staged, which a committing thread clears without the gate
        self._staged: dict[str, tuple[UnitOfWork, Optional[NodeRecord]]] = {}
        self._batch: Optional[UnitOfWork] = None
        self._batch_owner: Optional[int] = None
        self._group: GroupCommit[UnitOfWork] = GroupCommit(self._commit)
        self._disk = threading.Lock()  # one commit, sample save or refresh at a time

    def command(self) -> Command:
        """Stage one command; leaves when it is durable and visible. Inside a batch, when it is staged."""
        return Command(self)

    def begin(self) -> UnitOfWork:
        """Close the gate and decide; `finish` or `abandon` must follow, in this thread."""
        self._gate.acquire()
        return self._batch or UnitOfWork()  # a batch that is open is ours: others wait at the gate

    def abandon(self, unit: UnitOfWork) -> None:
        """The command was refused and has staged nothing, or Ctrl-C came: forget what it staged."""
        if unit is not self._batch:
            self._drop(unit, {})
        self._gate.release()

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
            ticket = self._group.enqueue(unit)
        except BaseException:  # Ctrl-C, before it was kept for later
            self._drop(unit, {})
            raise
        finally:
            self._gate.release()
        with stack:
            self._group.wait(ticket)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Many commands, one commit. An exception inside drops them all; a batch within a batch belongs to it."""
        with ExitStack() as stack:
            with self._gate:
                if self._batch is not None:
                    yield
                    return
                before = dict(self._staged)
                unit = self._batch = UnitOfWork()
                self._batch_owner = threading.get_ident()
                try:
                    yield
                except BaseException:
                    self._drop(unit, before)
                    raise
                finally:
                    self._batch = self._batch_owner = None
                if unit.is_soft():
                    self._make_visible(unit)
                    return
                stack.enter_context(KeptInterrupts())
                ticket = self._group.enqueue(unit)
            self._group.wait(ticket)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """The store to oneself, for what is not a commit. Soft calls never come here."""
        with self._disk:
            yield

    def own_batch(self) -> Optional[UnitOfWork]:
        """The batch that the calling thread has open, if any."""
        return self._batch if self._batch_owner == threading.get_ident() else None

    def record(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """The newest record: staged by an earlier command, else as committed."""
        with self._guard:
            staged = self._staged.get(node_id)
        if staged is None:  # what is not staged is visible: the table knows of every record, and asking it is cheap
            return self._store.read(node_id) if self._knows(node_id) else None
        if staged[0] is not unit:
            unit.depends_on.add(staged[0])
        return staged[1]

    def remains(self, node_id: str, unit: UnitOfWork) -> Optional[NodeRecord]:
        """As `record`; of a record that is damaged, what its columns say: for who takes it out or writes it anew."""
        try:
            return self.record(node_id, unit)
        except DamagedStoreError as error:
            columns = self._store.columns(node_id) if error.node_id == node_id else None
            if columns is None:
                raise
            return record_of(columns)

    def staged_by(self, unit: UnitOfWork, node_id: str) -> Optional[tuple[UnitOfWork, Optional[NodeRecord]]]:
        """What this very unit did to the node, if anything."""
        with self._guard:
            staged = self._staged.get(node_id)
        return staged if staged is not None and staged[0] is unit else None

    def in_own_batch(self, node_id: str) -> Optional[tuple[UnitOfWork, Optional[NodeRecord]]]:
        """What the batch that the calling thread has open did to the node, if anything."""
        unit = self.own_batch()
        return None if unit is None else self.staged_by(unit, node_id)

    @property
    def batch_is_open(self) -> bool:
        """Whether any thread has a batch open."""
        return self._batch is not None

    def put(self, unit: UnitOfWork, record: NodeRecord) -> None:
        """Stage a record."""
        unit.changes.append(Put(record, columns_of(record)))
        with self._guard:
            self._staged[record.node.id] = (unit, record)

    def delete(self, unit: UnitOfWork, node_id: str) -> None:
        """Stage a removal."""
        unit.changes.append(Delete(node_id))
        with self._guard:
            self._staged[node_id] = (unit, None)

    def _drop(self, unit: UnitOfWork, before: Mapping[str, tuple[UnitOfWork, Optional[NodeRecord]]]) -> None:
        unit.dropped = True
        with self._guard:
            for node_id in [node_id for node_id, staged in self._staged.items() if staged[0] is unit]:
                earlier = before.get(node_id)
                if earlier is not None and not earlier[0].settled:
                    self._staged[node_id] = earlier
                else:
                    del self._staged[node_id]

    def _commit(self, units: Sequence[UnitOfWork]) -> None:
        try:
            for unit in units:
                failed = next((depends_on for depends_on in unit.depends_on if depends_on.error is not None), None)
                if failed is not None:
                    assert failed.error is not None
                    raise failed.error
            changes = [change for unit in units for change in unit.changes]
            meta: dict[str, Optional[str]] = dict(self._meta())
            for unit in units:
                meta.update(unit.meta)
            with self._disk:
                self._store.commit(changes, meta)
        except RegistryError as error:
            if len(units) == 1:  # several are tried again one by one
                self._settle(units[0], error)
            raise
        for unit in units:
            self._make_visible(unit)
            self._settle(unit, None)

    def _settle(self, unit: UnitOfWork, error: Optional[RegistryError]) -> None:
        unit.error = error
        unit.settled = True
        with self._guard:
            for change in unit.changes:
                node_id = change.columns.node_id if isinstance(change, Put) else change.node_id
                staged = self._staged.get(node_id)
                if staged is not None and staged[0] is unit:
                    del self._staged[node_id]


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
