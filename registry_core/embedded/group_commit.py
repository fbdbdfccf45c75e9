"""Group commit: one of several waiting threads commits the work of all of them.

There is no dedicated thread: a lone caller commits on its own thread and avoids a hand-over, which would add a third to
a commit of 0.1 ms. Callers that arrive during a commit wait in a queue; the first of them then commits the whole queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Callable, Generic, Optional, TypeVar

from registry_core.errors import RegistryError

__all__ = ["GroupCommit", "Ticket"]

W = TypeVar("W")

LARGEST_GROUP = 1024  # bounds the wait of later callers; a larger group would gain nothing, since the sync is shared


class Ticket(Generic[W]):
    """A place in the queue."""

    __slots__ = ("done", "error", "leads", "wake", "work")

    def __init__(self, work: W) -> None:
        self.work = work
        self.done = False
        self.leads = False
        self.error: Optional[BaseException] = None
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[W]):
    """`commit_all` writes several items of work in one commit: all become durable, or none and it raises."""

    def __init__(self, commit_all: Callable[[Sequence[W]], None]) -> None:
        self._commit_all = commit_all
        self._guard = threading.Lock()
        self._queue: deque[Ticket[W]] = deque()

    @property
    def waiting(self) -> int:
        """The number of items that are not durable yet."""
        return len(self._queue)

    def enqueue(self, work: W) -> Ticket[W]:
        """Add an item to the queue; `wait` must follow in this thread."""
        ticket = Ticket(work)
        with self._guard:
            self._queue.append(ticket)
            ticket.leads = len(self._queue) == 1
        return ticket

    def wait(self, ticket: Ticket[W]) -> None:
        """Return when the item is durable; items are committed in queue order. Raises the error of its commit.

        When a shared commit fails with a RegistryError, each of its items is retried alone, so that an error reaches
        only the callers whose item caused it.
        """
        interrupted = None if ticket.leads else _wait_through(ticket)
        if not ticket.done:
            self._lead()
        if interrupted is not None:
            raise interrupted
        if ticket.error is not None:
            raise ticket.error

    def _lead(self) -> None:
        with self._guard:
            group = [self._queue[index] for index in range(min(len(self._queue), LARGEST_GROUP))]
        try:
            self._settle(group)
        finally:
            with self._guard:
                for ticket in group:
                    ticket.done = True
                    self._queue.popleft()
                successor = self._queue[0] if self._queue else None
            for ticket in group[1:]:
                ticket.wake.release()
            if successor is not None:
                successor.wake.release()  # not done: it leads now

    def _settle(self, group: list[Ticket[W]]) -> None:
        try:
            self._commit_all([ticket.work for ticket in group])
        except RegistryError as error:
            if len(group) == 1:
                group[0].error = error
                return
            for ticket in group:
                self._settle([ticket])
        except BaseException:
            for ticket in group[1:]:
                ticket.error = InterruptedError("the commit was interrupted; it is unknown whether it is durable")
            raise


def _wait_through(ticket: Ticket[W]) -> Optional[KeyboardInterrupt]:
    """Wait until the item is done or this thread must lead.

    Ctrl-C is deferred and returned: if this thread stopped waiting, the threads behind it would wait forever.
    """
    interrupted = None
    while True:
        try:
            ticket.wake.acquire()
            return interrupted
        except KeyboardInterrupt as error:
            interrupted = error
