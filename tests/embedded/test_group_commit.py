"""Callers that come while a commit runs share the next one; each gets the outcome of its own work."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from registry_core.embedded.group_commit import GroupCommit
from registry_core.errors import StoreError


class Journal:
    """Commits into a list; waits at a gate when told, refuses what is named bad."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def commit_all(self, works: Sequence[str]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        if any(work.startswith("bad") for work in works):
            raise StoreError("journal", "a bad work among " + " ".join(works))
        self.commits.append(list(works))


def run_behind_a_commit(journal: Journal, works: Sequence[str]) -> dict[str, object]:
    """Hold the commit of `first`, let all others queue up behind it in order, then open the gate."""
    group = GroupCommit(journal.commit_all)
    outcomes: dict[str, object] = {}

    def ask(work: str) -> None:
        try:
            group.wait(group.enqueue(work))
            outcomes[work] = "done"
        except StoreError as error:
            outcomes[work] = error

    journal.gate.clear()
    threads = []
    for count, work in enumerate(["first", *works], start=1):
        thread = threading.Thread(target=ask, args=(work,))
        thread.start()
        threads.append(thread)
        assert journal.entered.wait(10)
        while len(group._queue) < count:
            threading.Event().wait(0.001)
    journal.gate.set()
    for thread in threads:
        thread.join(10)
    return outcomes


def test_a_lone_caller_commits_alone_and_on_its_own_thread() -> None:
    threads = []
    group: GroupCommit[str] = GroupCommit(lambda _works: threads.append(threading.current_thread()))
    group.wait(group.enqueue("work"))
    group.wait(group.enqueue("work"))
    assert threads == [threading.current_thread()] * 2


def test_all_who_wait_share_one_commit_in_the_order_in_which_they_came() -> None:
    journal = Journal()
    works = [f"work-{number}" for number in range(15)]
    outcomes = run_behind_a_commit(journal, works)
    assert journal.commits == [["first"], works]
    assert outcomes == dict.fromkeys(["first", *works], "done")


def test_an_error_reaches_the_caller_whose_work_it_is_and_nobody_else() -> None:
    journal = Journal()
    outcomes = run_behind_a_commit(journal, ["a", "bad-1", "b", "bad-2"])
    assert journal.commits == [["first"], ["a"], ["b"]]
    assert {work for work, outcome in outcomes.items() if outcome == "done"} == {"first", "a", "b"}
    assert str(outcomes["bad-1"]).endswith("among bad-1")
    assert str(outcomes["bad-2"]).endswith("among bad-2")


def test_after_an_error_the_next_work_is_committed() -> None:
    journal = Journal()
    group = GroupCommit(journal.commit_all)
    with pytest.raises(StoreError):
        group.wait(group.enqueue("bad"))
    group.wait(group.enqueue("good"))
    assert journal.commits == [["good"]]


def test_an_interrupted_leader_leaves_nobody_waiting() -> None:
    journal = Journal()
    calls = []

    def commit_all(works: Sequence[str]) -> None:
        calls.append(works)
        journal.commit_all(works)
        if len(calls) == 1:
            raise KeyboardInterrupt

    group = GroupCommit(commit_all)
    journal.gate.clear()
    waiting = threading.Thread(target=lambda: group.wait(group.enqueue("second")))

    def open_the_gate_when_it_waits() -> None:
        assert journal.entered.wait(10)
        waiting.start()
        while len(group._queue) < 2:
            threading.Event().wait(0.001)
        journal.gate.set()

    opener = threading.Thread(target=open_the_gate_when_it_waits)
    opener.start()
    with pytest.raises(KeyboardInterrupt):
        group.wait(group.enqueue("first"))
    opener.join(10)
    waiting.join(10)
    assert not waiting.is_alive()
    assert journal.commits == [["first"], ["second"]]
