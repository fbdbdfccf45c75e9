"""The two questions to the C library, held against psutil and the kernel's own files."""

from __future__ import annotations

import psutil

from agent.probe import system_calls as calls
from agent.probe.libc import clock_state
from agent.probe.source import LiveSource


def test_the_interfaces_are_those_that_psutil_sees() -> None:
    ours = {item["name"]: item for item in LiveSource().interfaces()}
    theirs = {item["name"]: item for item in calls._interfaces_by_psutil()}
    assert {name: sorted(item["addresses"]) for name, item in ours.items()} == {
        name: sorted(item["addresses"]) for name, item in theirs.items()
    }
    assert {name for name, item in ours.items() if item["up"]} == {
        name for name, stats in psutil.net_if_stats().items() if stats.isup and "running" in stats.flags
    }


def test_the_clock_is_asked_without_being_set() -> None:
    state = clock_state()
    assert set(state) == {"synchronised", "offset_seconds", "max_error_seconds"}
    assert abs(state["offset_seconds"]) < 1  # adjtimex slews at most half a second; more would be the wrong unit
