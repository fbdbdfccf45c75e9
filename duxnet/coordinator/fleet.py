"""Who of the approved nodes is silent, by network, so that a mass failure is told from many single ones.

Here: counting, fed by the registry's events, and the state of the breakers. Not here: the thresholds
(`registry_core.rules.breaker`), following events (`upkeep`). Nothing here walks over all nodes: what is kept is
the recent silences and a few counters for each network.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Optional

from registry_core.rules.breaker import (
    DOMAIN_LIMIT,
    GLOBAL_LIMIT,
    WINDOW_INTERVALS,
    BreakerLimit,
    hold_is_over,
    must_open,
)

__all__ = ["Fleet"]

GLOBAL = "global"


@dataclass
class _Member:
    domain: str  # the public /24 or /48, or the node itself where addresses say nothing
    silent: bool


@dataclass
class _Open:
    since: float
    silent_at_opening: int


class Fleet:
    """The approved nodes. Written by the event loop; `is_held` may be asked from any thread."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._alive: Counter[str] = Counter()  # approved and heard, by domain
        self._silent: Counter[str] = Counter()
        self._recent: deque[tuple[float, str]] = deque()  # (when it fell silent, node id)
        self._open: dict[str, _Open] = {}

    @property
    def open_breakers(self) -> tuple[str, ...]:
        """`global`, and the domains whose breaker is open."""
        return tuple(self._open)

    def is_held(self, node_id: str) -> bool:
        """Must this node not be called down now?"""
        if not self._open:
            return False
        member = self._members.get(node_id)
        return GLOBAL in self._open or (member is not None and member.domain in self._open)

    def knows(self, node_id: str) -> bool:
        """Is it counted already, so that its domain need not be told again?"""
        return node_id in self._members

    def put(self, node_id: str, *, domain: Optional[str], silent: bool, now: float) -> None:
        """What is now known of an approved node. `domain` None: as before, or by itself where it is new."""
        was = self._members.get(node_id)
        if was is not None:
            self._count(was, -1)
            domain = domain or was.domain
        member = self._members[node_id] = _Member(domain or f"node {node_id}", silent)
        self._count(member, 1)
        if silent and was is not None and not was.silent:
            self._recent.append((now, node_id))

    def remove(self, node_id: str) -> None:
        """The node is gone for good."""
        was = self._members.pop(node_id, None)
        if was is not None:
            self._count(was, -1)

    def judge(self, now: float, interval_seconds: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Open and close breakers; returns what opened and what closed."""
        while self._recent and self._recent[0][0] < now - WINDOW_INTERVALS * interval_seconds:
            self._recent.popleft()
        closed = tuple(name for name in self._open if self._is_over(name, now, interval_seconds))
        for name in closed:
            del self._open[name]
        if closed:
            self._recent.clear()  # what was judged is judged; only new silences open it again
        opened = tuple(self._that_open(now))
        return opened, closed

    def _that_open(self, now: float) -> list[str]:
        if not self._recent:
            return []
        fell: Counter[str] = Counter()
        for node_id in {node_id for _, node_id in self._recent}:
            member = self._members.get(node_id)
            if member is not None and member.silent:
                fell[member.domain] += 1
        opened = [domain for domain, count in fell.items() if self._opens(domain, count, DOMAIN_LIMIT)]
        lost = sum(1 for domain in fell if not self._alive[domain])  # one voice a domain, lost when all in it are
        if GLOBAL not in self._open and must_open(lost, len(self._alive), GLOBAL_LIMIT):
            opened.append(GLOBAL)
        for name in opened:
            silent = lost if name == GLOBAL else fell[name]
            self._open[name] = _Open(now, silent)
        return opened

    def _opens(self, domain: str, count: int, limit: BreakerLimit) -> bool:
        return domain not in self._open and must_open(count, self._alive[domain], limit)

    def _is_over(self, name: str, now: float, interval_seconds: float) -> bool:
        state = self._open[name]
        if name == GLOBAL:
            silent = sum(1 for domain, count in self._silent.items() if count and not self._alive[domain])
        else:
            silent = self._silent[name]
        return hold_is_over(now - state.since, interval_seconds, silent, state.silent_at_opening)

    def _count(self, member: _Member, step: int) -> None:
        counter = self._silent if member.silent else self._alive
        counter[member.domain] += step
        if counter[member.domain] <= 0:
            del counter[member.domain]
