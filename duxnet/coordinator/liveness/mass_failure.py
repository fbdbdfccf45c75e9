"""Counts silent nodes by network, to distinguish a mass failure from many single failures.

Here: counting the nodes with a voice, and the state of the breakers. Not here: the thresholds
(`registry_core.rules.breaker`), following the registry's events (`background`). No method iterates over all nodes: the
state consists of the recent silences and a few counters for each network.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from registry_core.rules.breaker import (
    DOMAIN_LIMIT,
    GLOBAL_LIMIT,
    HOLD_INTERVALS,
    RETURN_INTERVALS,
    WINDOW_INTERVALS,
    hold_is_over,
    must_open,
)

__all__ = ["MassFailureDetector"]

GLOBAL = "global"


@dataclass(frozen=True)
class _Member:
    domain: str  # the public /24 or /48, or the node itself if its address is not public
    wallet: str  # verified; "" means none
    silent: bool

    @property
    def owner(self) -> str:
        """The node's group in the count by wallet: its verified wallet, or else its network."""
        return f"wallet {self.wallet}" if self.wallet else self.domain


@dataclass
class _Open:
    since: float
    silent_at_opening: tuple[int, ...]


class _Voices:
    """The number of live and of silent members of each key. Each key has one voice."""

    def __init__(self) -> None:
        self.alive: Counter[str] = Counter()
        self.silent: Counter[str] = Counter()

    def count(self, key: str, silent: bool, step: int) -> None:
        """Add (1) or remove (-1) a member."""
        counter = self.silent if silent else self.alive
        counter[key] += step
        if counter[key] <= 0:
            del counter[key]

    def lost(self, keys: Iterable[str]) -> int:
        """Returns how many of these keys have no live member. A voice is lost when all its members are silent."""
        return sum(1 for key in keys if not self.alive[key])


class MassFailureDetector:
    """Counts the nodes with a voice, and opens breakers. The event loop writes it; any thread may call `is_held`.

    The global breaker counts each public network once, and each verified wallet once. It opens when too many went
    silent in both counts, so that neither many nodes in one network nor many networks of one wallet can open it.
    Wallets only combine voices: otherwise many wallets in one network would outvote all other networks.
    """

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._networks = _Voices()
        self._owners = _Voices()
        self._recent: deque[tuple[float, str]] = deque()  # (when it went silent, node id)
        self._open: dict[str, _Open] = {}
        self._until: dict[str, float] = {}  # breakers that closed early: until when they still hold silent nodes

    @property
    def open_breakers(self) -> tuple[str, ...]:
        """The open breakers: `global` and domains."""
        return tuple(self._open)

    def is_held(self, node_id: str) -> bool:
        """Does a breaker keep this node from being marked down?"""
        if not self._open and not self._until:
            return False
        member = self._members.get(node_id)
        names = (GLOBAL,) if member is None else (GLOBAL, member.domain)
        return any(name in self._open or name in self._until for name in names)

    def knows(self, node_id: str) -> bool:
        """Is the node already counted? Then `put` needs no domain."""
        return node_id in self._members

    def is_silent(self, node_id: str) -> bool:
        """Is the node counted as silent?"""
        member = self._members.get(node_id)
        return member is not None and member.silent

    @property
    def can_open(self) -> bool:
        """Are there enough voices for the global breaker to open?"""
        return len(self._networks.alive) + self._networks.lost(self._networks.silent) >= GLOBAL_LIMIT.least

    def put(
        self, node_id: str, *, domain: Optional[str], silent: bool, now: float, wallet: Optional[str] = None
    ) -> None:
        """Add or update a node with a voice. None keeps the value, or gives a new node its own domain and no wallet."""
        was = self._members.get(node_id)
        if was is not None:
            self._count(was, -1)
            domain = domain or was.domain
            wallet = was.wallet if wallet is None else wallet
        member = self._members[node_id] = _Member(domain or f"node {node_id}", wallet or "", silent)
        self._count(member, 1)
        if silent and was is not None and not was.silent:
            self._recent.append((now, node_id))

    def remove(self, node_id: str) -> None:
        """Stop counting a node."""
        was = self._members.pop(node_id, None)
        if was is not None:
            self._count(was, -1)

    def judge(self, now: float, interval_seconds: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Open and close breakers. Returns those that opened and those that closed."""
        while self._recent and self._recent[0][0] < now - WINDOW_INTERVALS * interval_seconds:
            self._recent.popleft()
        self._until = {name: end for name, end in self._until.items() if end > now}
        closed = tuple(name for name in self._open if self._is_over(name, now, interval_seconds))
        for name in closed:
            if now - self._open.pop(name).since < HOLD_INTERVALS * interval_seconds:
                self._until[name] = now + RETURN_INTERVALS * interval_seconds
        if closed:
            self._recent.clear()  # only new silences may open them again
        opened = tuple(self._that_open(now))
        return opened, closed

    def _that_open(self, now: float) -> list[str]:
        if not self._recent:
            return []
        members = [self._members.get(node_id) for node_id in {node_id for _, node_id in self._recent}]
        fallen = [member for member in members if member is not None and member.silent]
        fell = Counter(member.domain for member in fallen)
        opened = []
        for domain, count in fell.items():
            if domain not in self._open and must_open(count, self._networks.alive[domain], DOMAIN_LIMIT):
                opened.append(domain)
                self._open[domain] = _Open(now, (count,))
        lost = _bounded(self._networks.lost(fell), self._owners.lost({member.owner for member in fallen}))
        alive = _bounded(len(self._networks.alive), len(self._owners.alive))
        if GLOBAL not in self._open and all(must_open(*counts, GLOBAL_LIMIT) for counts in zip(lost, alive)):
            opened.append(GLOBAL)
            self._open[GLOBAL] = _Open(now, lost)
        return opened

    def _is_over(self, name: str, now: float, interval_seconds: float) -> bool:
        state = self._open[name]
        if name == GLOBAL:
            silent: tuple[int, ...] = _bounded(*(each.lost(each.silent) for each in (self._networks, self._owners)))
        else:
            silent = (self._networks.silent[name],)
        open_seconds = now - state.since
        return any(
            hold_is_over(open_seconds, interval_seconds, *counts) for counts in zip(silent, state.silent_at_opening)
        )

    def _count(self, member: _Member, step: int) -> None:
        self._networks.count(member.domain, member.silent, step)
        self._owners.count(member.owner, member.silent, step)


def _bounded(networks: int, owners: int) -> tuple[int, int]:
    """Returns both counts of voices. Wallets may only reduce the count."""
    return networks, min(networks, owners)
