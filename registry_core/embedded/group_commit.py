"""Sharing commits: many threads ask, one of them commits for all who wait.

Here: who leads, who waits, and whose error it is. Not here: SQL. No thread of its own: a lone caller commits on
its own thread and pays for no hand-over, which at 0.1 ms for a commit would be a third of it. Callers that come
while a commit runs wait in a queue; the first of them then commits the whole queue at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Callable, Generic, Optional, TypeVar

from registry_core.errors import RegistryError

__all__ = ["GroupCommit", "Ticket"]

W = TypeVar("W")

LARGEST_GROUP = 1024  # one commit must stay short for those who come next; more buys nothing: the sync is shared


class Ticket(Generic[W]):
    """A work's place in the queue."""

    __slots__ = ("done", "error", "leads", "wake", "work")

    def __init__(self, work: W) -> None:
        self.work = work
        self.done = False
        self.leads = False
        self.error: Optional[BaseException] = None
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[W]):
    """`commit_all` writes a sequence of works as one commit: all of them durable, or none and an exception."""

    def __init__(self, commit_all: Callable[[Sequence[W]], None]) -> None:
        self._commit_all = commit_all
        self._guard = threading.Lock()
        self._queue: deque[Ticket[W]] = deque()

    @property
    def waiting(self) -> int:
        """How many works are on their way to the disk."""
        return len(self._queue)

    def enqueue(self, work: W) -> Ticket[W]:
        """Take a place in the order of commits; `wait` must follow, in this thread."""
        ticket = Ticket(work)
        with self._guard:
            self._queue.append(ticket)
            ticket.leads = len(self._queue) == 1
        return ticket

    def wait(self, ticket: Ticket[W]) -> None:
        """Return when the work is durable, in the order in which the works came. Raises what its commit raised.

        When a shared commit fails with a RegistryError, each work of it is tried alone, so that an error reaches
        exactly the callers whose work it is.
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
                ticket.error = InterruptedError("the commit was interrupted; whether it was made is not known")
            raise


def _wait_through(ticket: Ticket[W]) -> Optional[KeyboardInterrupt]:
    """Wait to be done or to lead. Ctrl-C is kept for later: a thread that left here would leave the rest waiting."""
    interrupted = None
    while True:
        try:
            ticket.wake.acquire()
            return interrupted
        except KeyboardInterrupt as error:
            interrupted = error
