"""The periodic work of the coordinator: liveness, breakers, pacing, removal. One task of the event loop.

Here: the order of these at each pulse. Not here: their rules (`registry_core.rules`). The cost of a pulse depends on
what changed since the last one, not on the number of nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Callable

from duxnet.coordinator.admission.networks import is_counted, network_of
from duxnet.coordinator.coordinator import Coordinator
from registry_core.embedded.host import Place
from registry_core.errors import DamagedStoreError, EventsCompacted, StoreError
from registry_core.events import Event, EventKind
from registry_core.identity.wallets import canonical_wallet
from registry_core.models.status import Liveness
from registry_core.rules.liveness import paced_interval

__all__ = ["BackgroundLoop"]

_log = logging.getLogger("duxnet.coordinator")

PULSES_PER_INTERVAL = 8
LONGEST_PULSE_SECONDS = 0.25
TOLERATED_PULSES = 2.0
"""How many pulses late is still normal. After a longer delay the clock has stopped (`liveness.listening_clock`)."""
REMOVED_PER_PULSE = 50
SYNC_PULSES = 4
SETTLED_PER_SYNC = 500
"""Nodes whose hours of attendance are written at once. A million nodes take half an hour of each hour."""
RESTORED_AT_ONCE_SECONDS = 0.002
RESTORING_SHARE = 0.1
RESTORING_SHARE_COUNTED = 0.5
"""The share of the loop's time for reading all nodes after a start; the second, while new nodes wait for it."""
_GONE = (Liveness.DOWN, Liveness.LEFT)


class BackgroundLoop:
    """Runs the periodic work of one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._seen_index = coordinator.registry.events.last_index
        self._gone_since: dict[str, float] = {}  # down or left, when
        self._order: deque[tuple[float, str]] = deque()
        self._note_all_gone()  # gone before the start: counted from now on

    async def run(self) -> None:
        """Pulse until cancelled, and restore the networks of registered nodes meanwhile."""
        coordinator = self._coordinator
        restoring = asyncio.ensure_future(self._restore())
        period = pulse_seconds(coordinator.settings.shortest_interval_seconds)
        loop = asyncio.get_running_loop()
        count = 0
        try:
            while True:
                before = loop.time()
                await asyncio.sleep(period)
                coordinator.loop_lag_seconds = max(0.0, loop.time() - before - period)
                count += 1
                await self.pulse(sync=count % SYNC_PULSES == 0)
        finally:
            restoring.cancel()

    async def pulse(self, *, sync: bool = True) -> None:
        """Do the work of one pulse."""
        coordinator = self._coordinator
        stood = coordinator.clock.pulse()
        if stood > 1.0:
            _log.warning("stood still for %.1f s; this time does not count against nodes", stood)
        coordinator.registry.tick()
        self._follow()
        now = coordinator.clock.monotonic()
        opened, closed = coordinator.mass_failure.judge(now, coordinator.interval_seconds)
        self._log_breakers(opened, closed)
        self._pace()
        coordinator.registration_limiter.forget()
        coordinator.ticked()
        await self._remove_the_gone(now)
        if sync:
            try:
                await _in_thread(coordinator.audit.sync)
            except StoreError as error:
                _log.error("the audit log: %s", error)
            if coordinator.registry.host.hours_are_due:
                await self._settle_hours()

    async def _settle_hours(self) -> None:
        host = self._coordinator.registry.host
        try:
            await _in_thread(lambda: host.settle_hours(SETTLED_PER_SYNC))
        except StoreError as error:
            _log.error("hours of attendance cannot be written: %s", error)

    def _follow(self) -> None:
        ring = self._coordinator.registry.events
        try:
            new = ring.after(self._seen_index)
        except EventsCompacted as error:  # more events in one pulse than the ring holds
            _log.warning("missed events up to %d", error.oldest_index)
            new = ring.after(max(error.oldest_index - 1, 0))
            self._note_all_gone()
        for event in new:
            self._seen_index = event.index
            try:
                self._note(event)
            except StoreError as error:  # one unreadable record; the others are followed
                self._cannot_follow(event.node_id, error)

    def _cannot_follow(self, node_id: str, error: StoreError) -> None:
        if self._coordinator.node_search.damaged.note(error):
            _log.error("cannot follow %s: %s", node_id, error)

    def _note(self, event: Event) -> None:
        coordinator = self._coordinator
        if event.kind is EventKind.DEREGISTERED:
            coordinator.mass_failure.remove(event.node_id)
            self._gone_since.pop(event.node_id, None)
            coordinator.sessions.forget(event.node_id)
            return
        if event.kind not in (EventKind.LIVENESS, EventKind.ADMISSION, EventKind.REGISTERED, EventKind.UPDATED):
            return
        if event.kind is EventKind.UPDATED and not coordinator.mass_failure.knows(event.node_id):
            return
        place = coordinator.registry.host.place(event.node_id)
        if place is None:
            return
        if event.kind is EventKind.ADMISSION:  # a ban ends the session
            coordinator.sessions.judge(event.node_id)
        if event.kind is EventKind.LIVENESS:
            if event.details.get("from") == "live" and event.details.get("to") != "left":
                coordinator.counters["flaps"] += 1
            if place.liveness in _GONE:
                self._note_gone(event.node_id)
            else:
                self._gone_since.pop(event.node_id, None)
        may_have_changed = event.kind is EventKind.UPDATED
        self._note_member(event.node_id, place, wallet_may_have_changed=may_have_changed)

    def _note_all_gone(self) -> None:
        for state in _GONE:
            for node_id in self._coordinator.registry.host.ids_in(state):
                self._note_gone(node_id)

    def _note_gone(self, node_id: str) -> None:
        if node_id not in self._gone_since:
            now = self._coordinator.clock.monotonic()
            self._gone_since[node_id] = now
            self._order.append((now, node_id))

    def _note_member(self, node_id: str, place: Place, *, wallet_may_have_changed: bool = False) -> None:
        mass_failure, host = self._coordinator.mass_failure, self._coordinator.registry.host
        if not place.is_approved or place.liveness is Liveness.LEFT:
            mass_failure.remove(node_id)
            return
        domain = wallet = None
        is_new = not mass_failure.knows(node_id)
        if is_new:
            peer = (host.state(node_id) or {}).get("peer", "")
            domain = network_of(peer) if is_counted(peer) else None
        if is_new or wallet_may_have_changed:
            wallet = canonical_wallet(host.proven_wallet(node_id))
        silent = place.liveness is not Liveness.LIVE
        mass_failure.put(node_id, domain=domain, wallet=wallet, silent=silent, now=self._coordinator.clock.monotonic())

    def _log_breakers(self, opened: Iterable[str], closed: Iterable[str]) -> None:
        for name in opened:
            _log.warning(
                "breaker %s opened: many approved nodes went silent at once; until they recover, none is marked down",
                name,
            )
        for name in closed:
            _log.warning("breaker %s closed: nodes that stay silent are marked down", name)

    def _pace(self) -> None:
        coordinator = self._coordinator
        settings = coordinator.settings
        counts = coordinator.registry.host.counts()
        wanted = paced_interval(
            counts.live + counts.suspect,
            settings.heartbeats_per_second,
            settings.shortest_interval_seconds,
            settings.longest_interval_seconds,
        )
        if wanted > coordinator.interval_seconds or wanted < 0.8 * coordinator.interval_seconds:
            coordinator.pace(wanted)

    async def _remove_the_gone(self, now: float) -> None:
        coordinator = self._coordinator
        retention = coordinator.settings.retention_hours * 3600
        for _ in range(REMOVED_PER_PULSE):
            if coordinator.mass_failure.open_breakers or not self._order or self._order[0][0] > now - retention:
                return
            since, node_id = self._order.popleft()
            if self._gone_since.get(node_id) != since:
                continue  # it returned, and may have left again
            try:
                place = coordinator.registry.host.place(node_id)
                if place is None or place.liveness not in _GONE:
                    self._gone_since.pop(node_id, None)
                    continue
                await coordinator.remove(node_id, "retention")
            except DamagedStoreError as error:  # it stays until an operator repairs it
                _log.error("cannot remove %s: %s", node_id, error)
                self._gone_since.pop(node_id, None)
                continue
            except StoreError as error:
                _log.error("cannot remove %s: %s", node_id, error)
                self._order.appendleft((since, node_id))
                return
            coordinator.counters["removed"] += 1

    async def _restore(self) -> None:
        """Restore the networks of registered nodes, a few at a time, so that the loop is not blocked.

        Only the records of approved nodes and of those that a quota counts are read.
        """
        quotas, host = self._coordinator.quotas, self._coordinator.registry.host
        begun = time.monotonic()
        for node_id in host.ids():
            place = host.place(node_id)
            try:
                quotas.recount(node_id, host.state)
                if place is not None and place.is_approved:
                    self._note_member(node_id, place)
            except StoreError as error:  # one unreadable record; the others are restored
                self._cannot_follow(node_id, error)
            if time.monotonic() - begun > RESTORED_AT_ONCE_SECONDS:
                share = RESTORING_SHARE_COUNTED if quotas.are_counting else RESTORING_SHARE
                await asyncio.sleep(RESTORED_AT_ONCE_SECONDS / share)
                begun = time.monotonic()
        quotas.all_counted()


async def _in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


def pulse_seconds(shortest_interval_seconds: float) -> float:
    """The time between two pulses."""
    return min(LONGEST_PULSE_SECONDS, shortest_interval_seconds / PULSES_PER_INTERVAL)
