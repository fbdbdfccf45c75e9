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
from typing import Any, Callable, NamedTuple, Optional, TypeVar

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

Step = Callable[[Any], Any]


class _Waiting(NamedTuple):
    given: Any
    steps: Sequence[Step]
    on_done: Callable[[Any, Optional[BaseException]], None]


class _Outcome(NamedTuple):
    """What the last step made, or why it was refused. Before the last step: what the one before it made."""

    value: Any
    error: Optional[RegistryError] = None


class CommitQueue:
    """Belongs to one event loop. Changes are carried out in the order in which they came.

    `completed` is called in the thread with what the changes of a commit returned, once it is durable.
    """

    def __init__(
        self,
        registry: NodeRegistry,
        token_store: TokenStore,
        audit: AuditLog,
        quotas: Quotas,
        completed: Callable[[Sequence[object]], None],
    ) -> None:
        self._registry = registry
        self._token_store = token_store
        self._audit = audit
        self._quotas = quotas
        self._completed = completed
        self._waiting: deque[_Waiting] = deque()
        self._alone = 0  # so many of the first that wait go one by one: together they failed
        self._under_way = False
        self._fails = ""  # why nothing gets to the disk, as long as that goes on
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    async def run(self, change: Callable[[], T]) -> T:
        """Carry out a change of the registry, the ledger and the audit log; its result once it is durable.

        `change` is called in the thread, again where a commit that it shared has failed. What it raises is raised here.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(None, [lambda _: change()], lambda value, error: _tell(future, value, error))
        return await future

    def submit(
        self, given: Any, steps: Sequence[Step], on_done: Callable[[Any, Optional[BaseException]], None]
    ) -> None:
        """As `run`, for who has no coroutine: `on_done` is called by the loop with the result, or what was raised.

        Each step is called with what the one before it made, the first with `given`. The last is the change; those
        before it change nothing, and see nothing of the other changes of this commit.
        """
        self._waiting.append(_Waiting(given, steps, on_done))
        if not self._under_way:
            self._set_out(asyncio.get_running_loop())

    def close(self) -> None:
        """Finish what is under way."""
        self._thread.shutdown(wait=True)

    def _set_out(self, loop: asyncio.AbstractEventLoop) -> None:
        count = min(len(self._waiting), MOST_TOGETHER)
        if self._alone:
            self._alone, count = self._alone - 1, 1
        group = [self._waiting.popleft() for _ in range(count)]
        self._under_way = True
        self._thread.submit(self._carry, loop, group)

    def _carry(self, loop: asyncio.AbstractEventLoop, group: Sequence[_Waiting]) -> None:
        """In the thread."""
        outcomes: Sequence[_Outcome] = ()
        failure: Optional[BaseException] = None
        try:
            outcomes = self._commit(group)
            self._completed([outcome.value for outcome in outcomes])
        except BaseException as error:  # noqa: BLE001 - who asked is on_done
            failure = error
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(self._arrived, loop, group, outcomes, failure)

    def _arrived(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Waiting],
        outcomes: Sequence[_Outcome],
        failure: Optional[BaseException],
    ) -> None:
        again = failure is not None and not outcomes and len(group) > 1  # whose fault it is shows when each goes alone
        if again:
            self._waiting.extendleft(reversed(group))
            self._alone += len(group)
        elif self._alone and isinstance(failure, StoreError) and not isinstance(failure, DamagedStoreError):
            # The file's fault and not that of one record, so that the others need not try.
            group = [*group, *(self._waiting.popleft() for _ in range(self._alone))]
            self._alone = 0
        self._under_way = False
        if self._waiting:
            self._set_out(loop)
        if again:
            return
        if failure is not None or any(outcome.error is None for outcome in outcomes):  # else the disk was not asked
            self._tell_operator(failure)
        for waiting, outcome in zip(group, outcomes or [_Outcome(None)] * len(group)):
            loop.call_soon(waiting.on_done, outcome.value, failure or outcome.error)

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

        The ledger's part is durable before the registry's: a join token is used for a node before the node is there,
        which its repetition mends, and never the other way.
        """
        outcomes = [_Outcome(waiting.given) for waiting in group]
        for place in range(max(len(waiting.steps) for waiting in group) - 1):
            for index, (waiting, outcome) in enumerate(zip(group, outcomes)):
                if place < len(waiting.steps) - 1 and outcome.error is None:
                    outcomes[index] = _stepped(waiting.steps[place], outcome.value)
        if all(outcome.error is not None for outcome in outcomes):
            return outcomes
        with self._quotas.commit(), self._audit.commit(), self._registry.batch(), self._token_store.batch():
            outcomes = [
                outcome if outcome.error is not None else self._tried(waiting.steps[-1], outcome.value)
                for waiting, outcome in zip(group, outcomes)
            ]
            self._audit.write_noted()
        return outcomes

    def _tried(self, change: Step, given: Any) -> _Outcome:
        noted, moves = self._audit.noted, self._quotas.moves
        try:
            with self._token_store.part():
                return _Outcome(change(given))
        except RegistryError as error:  # it was refused, and the registry does nothing then; the others go on
            of_one_record = isinstance(error, DamagedStoreError) and error.node_id is not None
            if isinstance(error, StoreError) and not of_one_record:
                raise  # a file that failed may have undone the others' part
            self._audit.forget_noted(noted)
            self._quotas.forget_moves(moves)
            return _refused(error)


def _stepped(step: Step, given: Any) -> _Outcome:
    try:
        return _Outcome(step(given))
    except RegistryError as error:
        return _refused(error)


def _refused(error: RegistryError) -> _Outcome:
    """Without the frames that it came through: they refer to all that waited, and that to the error."""
    error.__traceback__ = error.__context__ = None
    return _Outcome(None, error)


def _tell(future: asyncio.Future[Any], value: object, error: Optional[BaseException]) -> None:
    if future.done():  # who waited was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
