"""Changes on their way to the disk, carried there together by one thread: what waits when it sets out is one commit.

Here: collecting changes in the event loop, and whose error an error is. Not here: what a change does. One thread,
because each more would only wait for the interpreter's lock, and make the loop wait for it too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from duxnet.coordinator.audit import AuditLog
from duxnet.coordinator.ledger import Ledger
from registry_core.errors import RegistryError, StoreError
from registry_core.node_registry import NodeRegistry

__all__ = ["Commits"]

_log = logging.getLogger("duxnet.coordinator")

T = TypeVar("T")

MOST_TOGETHER = 256
"""Changes in one commit, 5 to 20 ms of work. More: the first of them waits longer for nothing."""


class _Waiting(NamedTuple):
    change: Callable[[], Any]
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    value: Any
    error: Optional[RegistryError]


class Commits:
    """Belongs to one event loop. Changes are carried out in the order in which they came."""

    def __init__(self, registry: NodeRegistry, ledger: Ledger, audit: AuditLog) -> None:
        self._registry = registry
        self._ledger = ledger
        self._audit = audit
        self._waiting: deque[_Waiting] = deque()
        self._alone = 0  # so many of the first that wait go one by one: together they failed
        self._under_way = False
        self._fails = ""  # why nothing gets to the disk, as long as that goes on
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    async def made(self, change: Callable[[], T]) -> T:
        """Carry out a change of the registry, the ledger and the audit log; its result once it is durable.

        `change` is called in the thread, again where a commit that it shared has failed. What it raises is raised here.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(change, future))
        if not self._under_way:
            self._set_out(loop)
        return await future

    def close(self) -> None:
        """Finish what is under way."""
        self._thread.shutdown(wait=True)

    def _set_out(self, loop: asyncio.AbstractEventLoop) -> None:
        count = min(len(self._waiting), MOST_TOGETHER)
        if self._alone:
            self._alone, count = self._alone - 1, 1
        group = [self._waiting.popleft() for _ in range(count)]
        self._under_way = True
        work = loop.run_in_executor(self._thread, self._commit, [waiting.change for waiting in group])
        work.add_done_callback(lambda done: self._arrived(loop, group, done))

    def _arrived(
        self, loop: asyncio.AbstractEventLoop, group: list[_Waiting], work: asyncio.Future[list[_Outcome]]
    ) -> None:
        error = work.exception()
        if error is not None and len(group) > 1:  # whose fault it is shows when each goes alone
            self._waiting.extendleft(reversed(group))
            self._alone += len(group)
        else:
            self._tell_operator(error)
            outcomes = work.result() if error is None else [_Outcome(None, None)]
            for waiting, outcome in zip(group, outcomes):
                _tell(waiting.future, outcome.value, error or outcome.error)
        self._under_way = False
        if self._waiting:
            self._set_out(loop)

    def _tell_operator(self, error: Optional[BaseException]) -> None:
        """Say in the log when changes cannot be kept any more and when they can again; those who asked know it."""
        fails = str(error) if isinstance(error, StoreError) else ""
        if fails and not self._fails:
            _log.error("registrations and orders cannot be kept, heartbeats go on: %s", fails)
        elif self._fails and not fails:
            _log.warning("registrations and orders are kept again")
        self._fails = fails

    def _commit(self, changes: Sequence[Callable[[], Any]]) -> list[_Outcome]:
        """In the thread. All of them and their lines in the log, or none and an exception.

        The ledger's part is durable before the registry's: a join token is used for a node before the node is there,
        which its repetition mends, and never the other way.
        """
        with self._audit.commit(), self._registry.batch(), self._ledger.batch():
            outcomes = [self._tried(change) for change in changes]
            self._audit.write_noted()
        return outcomes

    def _tried(self, change: Callable[[], Any]) -> _Outcome:
        noted = self._audit.noted
        try:
            with self._ledger.part():
                return _Outcome(change(), None)
        except StoreError:  # a file that failed may have undone the others' part
            raise
        except RegistryError as error:  # it was refused, and the registry does nothing then; the others go on
            self._audit.forget_noted(noted)
            return _Outcome(None, error)


def _tell(future: asyncio.Future[Any], value: object, error: Optional[BaseException]) -> None:
    if future.done():  # who waited was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
