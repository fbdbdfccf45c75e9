"""Changes on their way to the disk, carried there together by one thread: what waits when it sets out is one commit.

Here: collecting changes in the event loop, and whose error an error is. Not here: what a change does. One thread,
because each more would only wait for the interpreter's lock, and make the loop wait for it too, and because changes
that come one after the other need no locks among themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional, Protocol, TypeVar

from duxnet.coordinator.access.audit_log import AuditLog
from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.admission.quotas import Quotas
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, RegistryError, StoreError

__all__ = ["CommitQueue"]

_log = logging.getLogger("duxnet.coordinator")

T = TypeVar("T")

MOST_TOGETHER = 64
"""Changes in one commit, about 15 ms of work. More: the first of them waits longer for nothing."""


class _Waiting:
    """A change that waits for its turn; where it has still to be prepared, how."""

    __slots__ = ("change", "future", "prepare")

    def __init__(
        self,
        future: asyncio.Future[Any],
        change: Optional[Callable[[], Any]],
        prepare: Optional[Callable[[], Callable[[], Any]]],
    ) -> None:
        self.future = future
        self.change = change
        self.prepare = prepare


class _Part(Protocol):
    """What takes part in a commit and can take back one change of it. The registry needs not: it stages none then."""

    def mark(self) -> int:
        """The place in the commit under way to which `back_to` can return."""

    def back_to(self, mark: int) -> None:
        """Take back what changed since the mark."""


class _Outcome(NamedTuple):
    """What a change returned, or why it was refused."""

    value: Any
    error: Optional[RegistryError] = None


class CommitQueue:
    """Belongs to one event loop. Changes are carried out in the order in which they came."""

    def __init__(self, registry: NodeRegistry, token_store: TokenStore, audit: AuditLog, quotas: Quotas) -> None:
        self._registry = registry
        self._token_store = token_store
        self._audit = audit
        self._quotas = quotas
        self._parts: tuple[_Part, ...] = (token_store, audit, quotas)
        self._waiting: deque[_Waiting] = deque()
        self._alone = 0  # this many of the first that wait go one by one: together they failed
        self._under_way = False
        self._fails = ""  # why nothing gets to the disk, as long as that goes on
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    async def run(self, change: Callable[[], T]) -> T:
        """Carry out a change of the registry, the token store and the audit log; its result once it is durable.

        `change` is called in the thread, again where a commit that it shared has failed. What it raises is raised here.
        A change whose caller is cancelled before its commit begins is dropped.
        """
        result: T = await self._queued(change, None)
        return result

    async def prepare_and_run(self, prepare: Callable[[], Callable[[], T]]) -> T:
        """As `run`, for the change that `prepare` returns. It is called in the thread, before the commit begins.

        So what is expensive, or refused, keeps nobody from the registry and asks nothing of the disk. `prepare` changes
        nothing, and sees nothing of the other changes of this commit.
        """
        result: T = await self._queued(None, prepare)
        return result

    def _queued(
        self, change: Optional[Callable[[], Any]], prepare: Optional[Callable[[], Callable[[], Any]]]
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(future, change, prepare))
        if not self._under_way:
            self._set_out(loop)
        return future

    def close(self) -> None:
        """Finish what is under way."""
        self._thread.shutdown(wait=True)

    def _set_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the thread begin the next commit, where anybody still waits for one."""
        count = MOST_TOGETHER
        if self._alone:
            self._alone, count = self._alone - 1, 1
        group: list[_Waiting] = []
        while self._waiting and len(group) < count:
            waiting = self._waiting.popleft()
            if not waiting.future.done():  # else its caller was cancelled
                group.append(waiting)
        self._under_way = bool(group)
        if group:
            self._thread.submit(self._carry, loop, group)

    def _carry(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Waiting]) -> None:
        """In the thread."""
        outcomes: Sequence[_Outcome] = ()
        failure: Optional[BaseException] = None
        try:
            outcomes = self._commit(group)
        except BaseException as error:  # noqa: BLE001 - it is raised where the changes are awaited
            failure = error
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(self._finish, loop, group, outcomes, failure)

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Waiting],
        outcomes: Sequence[_Outcome],
        failure: Optional[BaseException],
    ) -> None:
        again = failure is not None and len(group) > 1  # whose fault it is shows when each goes alone
        if again:
            self._waiting.extendleft(reversed(group))
            self._alone += len(group)
        elif self._alone and isinstance(failure, StoreError) and not isinstance(failure, DamagedStoreError):
            # The file's fault and not that of one record, so that the others need not try.
            group = [*group, *(self._waiting.popleft() for _ in range(min(self._alone, len(self._waiting))))]
            self._alone = 0
        self._set_out(loop)
        if again:
            return
        if failure is not None or any(outcome.error is None for outcome in outcomes):  # else the disk was not asked
            self._tell_operator(failure)
        for waiting, outcome in zip(group, outcomes or [_Outcome(None)] * len(group)):
            _resolve(waiting.future, outcome.value, failure or outcome.error)

    def _tell_operator(self, error: Optional[BaseException]) -> None:
        """Say in the log when changes cannot be kept any more and when they can again; those who asked know it."""
        fails = str(error) if isinstance(error, StoreError) else ""
        if fails and not self._fails:
            _log.error("registrations and orders cannot be kept, heartbeats go on: %s", fails)
        elif self._fails and not fails:
            _log.warning("registrations and orders are kept again")
        self._fails = fails

    def _commit(self, group: Sequence[_Waiting]) -> list[_Outcome]:
        """All of them and their lines in the log, or none and an exception.

        The token store's part is durable before the registry's: a join token is used for a node before the node is
        there, which its repetition mends, and never the other way.
        """
        outcomes = [_prepared(waiting) for waiting in group]
        if all(outcome.error is not None for outcome in outcomes):
            return outcomes
        with self._quotas.commit(), self._audit.commit(), self._registry.batch(), self._token_store.batch():
            outcomes = [outcome if outcome.error is not None else self._tried(outcome.value) for outcome in outcomes]
            self._audit.write_noted()
        return outcomes

    def _tried(self, change: Callable[[], Any]) -> _Outcome:
        marks = [part.mark() for part in self._parts]
        try:
            return _Outcome(change())
        except RegistryError as error:  # it was refused, and the registry does nothing then; the others go on
            of_one_record = isinstance(error, DamagedStoreError) and error.node_id is not None
            if isinstance(error, StoreError) and not of_one_record:
                raise  # a file that failed may have undone the others' part
            for part, mark in zip(self._parts, marks):
                part.back_to(mark)
            return _refused(error)


def _prepared(waiting: _Waiting) -> _Outcome:
    """The change to carry out, or why there is none. A change that is tried again is not prepared again."""
    try:
        if waiting.change is None:
            assert waiting.prepare is not None, "a change is given or prepared"
            waiting.change = waiting.prepare()
        return _Outcome(waiting.change)
    except RegistryError as error:
        return _refused(error)


def _refused(error: RegistryError) -> _Outcome:
    """Without the frames that it came through: they refer to all that waited, and that to the error."""
    error.__traceback__ = error.__context__ = None
    return _Outcome(None, error)


def _resolve(future: asyncio.Future[Any], value: object, error: Optional[BaseException]) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
