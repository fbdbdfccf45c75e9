"""A queue of changes that one thread writes to disk. Everything queued when a commit starts goes into it.

Here: collecting changes in the event loop, and giving each caller its own result or error. Not here: what a change
does. There is one thread, because more would only compete with each other and with the event loop for the
interpreter's lock, and because changes that run one after the other need no locks among themselves.
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
"""Maximum number of changes in one commit, about 15 ms of work. More would only delay the first of them."""


class _Waiting:
    """A queued change. Before it is prepared, `change` is None and `prepare` makes it."""

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
    """A store that can undo a single change of the current commit. The registry stages none when it refuses."""

    def mark(self) -> int:
        """Returns the position in the current commit, for `back_to`."""

    def back_to(self, mark: int) -> None:
        """Undo what changed since the mark."""


class _Outcome(NamedTuple):
    """What a change returned, or the error that refused it."""

    value: Any
    error: Optional[RegistryError] = None


class CommitQueue:
    """Used in one event loop. Changes run in the order in which they were queued."""

    def __init__(self, registry: NodeRegistry, token_store: TokenStore, audit: AuditLog, quotas: Quotas) -> None:
        self._registry = registry
        self._token_store = token_store
        self._audit = audit
        self._quotas = quotas
        self._parts: tuple[_Part, ...] = (token_store, audit, quotas)
        self._waiting: deque[_Waiting] = deque()
        self._alone = 0  # this many of the first queued changes run one by one, since their common commit failed
        self._is_committing = False
        self._fails = ""  # the error of the last commit while commits fail
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    async def run(self, change: Callable[[], T]) -> T:
        """Run a change of the registry, the token store and the audit log. Returns its result once it is durable.

        `change` is called in the thread, and called again if a commit that it shared has failed. Its exceptions are
        raised here. A change whose caller is cancelled before the commit begins is dropped.
        """
        result: T = await self._queued(change, None)
        return result

    async def prepare_and_run(self, prepare: Callable[[], Callable[[], T]]) -> T:
        """As `run`, for the change that `prepare` returns. `prepare` is called in the thread, before the commit begins.

        An expensive check then holds no lock of the registry, and a refused request does not touch the disk. `prepare`
        changes nothing, and does not see the other changes of this commit.
        """
        result: T = await self._queued(None, prepare)
        return result

    def _queued(
        self, change: Optional[Callable[[], Any]], prepare: Optional[Callable[[], Callable[[], Any]]]
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(future, change, prepare))
        if not self._is_committing:
            self._start_commit(loop)
        return future

    def close(self) -> None:
        """Wait for the current commit, then end the thread."""
        self._thread.shutdown(wait=True)

    def _start_commit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the next commit in the thread, if a caller still waits for one."""
        count = MOST_TOGETHER
        if self._alone:
            self._alone, count = self._alone - 1, 1
        group: list[_Waiting] = []
        while self._waiting and len(group) < count:
            waiting = self._waiting.popleft()
            if not waiting.future.done():  # else its caller was cancelled
                group.append(waiting)
        self._is_committing = bool(group)
        if group:
            self._thread.submit(self._run_commit, loop, group)

    def _run_commit(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Waiting]) -> None:
        """In the thread."""
        outcomes: Sequence[_Outcome] = ()
        failure: Optional[BaseException] = None
        try:
            outcomes = self._commit(group)
        except BaseException as error:  # noqa: BLE001 - it is raised where the changes are awaited
            failure = error
        with suppress(RuntimeError):  # the loop was closed meanwhile: no caller waits
            loop.call_soon_threadsafe(self._finish, loop, group, outcomes, failure)

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Waiting],
        outcomes: Sequence[_Outcome],
        failure: Optional[BaseException],
    ) -> None:
        again = failure is not None and len(group) > 1  # each alone, to find the change that fails
        if again:
            self._waiting.extendleft(reversed(group))
            self._alone += len(group)
        elif self._alone and isinstance(failure, StoreError) and not isinstance(failure, DamagedStoreError):
            # The file fails, not one record: the others would fail too.
            group = [*group, *(self._waiting.popleft() for _ in range(min(self._alone, len(self._waiting))))]
            self._alone = 0
        self._start_commit(loop)
        if again:
            return
        if failure is not None or any(outcome.error is None for outcome in outcomes):  # else the disk was not used
            self._log_failure(failure)
        for waiting, outcome in zip(group, outcomes or [_Outcome(None)] * len(group)):
            _resolve(waiting.future, outcome.value, failure or outcome.error)

    def _log_failure(self, error: Optional[BaseException]) -> None:
        """Log when changes can no longer be stored, and when they can again. Callers get the error itself."""
        fails = str(error) if isinstance(error, StoreError) else ""
        if fails and not self._fails:
            _log.error("registrations and operators' changes cannot be stored, heartbeats still can: %s", fails)
        elif self._fails and not fails:
            _log.warning("registrations and operators' changes are stored again")
        self._fails = fails

    def _commit(self, group: Sequence[_Waiting]) -> list[_Outcome]:
        """Commit all changes and their audit lines, or none and raise.

        The token store becomes durable before the registry. After a crash between the two, a join token is used but its
        node is missing; the node's next registration with the same token completes it.
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
        except RegistryError as error:  # refused, so the registry did nothing; the others continue
            of_one_record = isinstance(error, DamagedStoreError) and error.node_id is not None
            if isinstance(error, StoreError) and not of_one_record:
                raise  # a failed file may have undone the other changes too
            for part, mark in zip(self._parts, marks):
                part.back_to(mark)
            return _refused(error)


def _prepared(waiting: _Waiting) -> _Outcome:
    """Returns the prepared change, or the error that refused it. A retried change is not prepared again."""
    try:
        if waiting.change is None:
            assert waiting.prepare is not None, "a change is given or prepared"
            waiting.change = waiting.prepare()
        return _Outcome(waiting.change)
    except RegistryError as error:
        return _refused(error)


def _refused(error: RegistryError) -> _Outcome:
    """Drops the error's frames: they refer to the whole group, and the group refers to the error."""
    error.__traceback__ = error.__context__ = None
    return _Outcome(None, error)


def _resolve(future: asyncio.Future[Any], value: object, error: Optional[BaseException]) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
