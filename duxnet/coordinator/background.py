"""Runs the coordinator's periodic work as tasks of the event loop: pulses, liveness, breakers, pacing, removal.

Here: the order of the steps; a step that fails does not stop the others. Not here: their rules (`registry_core.rules`).
The cost of a pulse depends on the number of changes since the last one, not on the number of nodes. A pulse never
waits: work that waits for the disk runs in separate tasks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import Callable, Optional

from duxnet.coordinator.admission.networks import is_counted, network_of
from duxnet.coordinator.coordinator import Coordinator
from registry_core.embedded.host import Place
from registry_core.errors import DamagedStoreError, EventsCompacted, StoreError
from registry_core.events import Event, EventKind
from registry_core.identity.wallets import canonical_wallet
from registry_core.models.status import Liveness
from registry_core.rules.breaker import GLOBAL_LIMIT
from registry_core.rules.liveness import paced_interval

__all__ = ["BackgroundLoop"]

_log = logging.getLogger("duxnet.coordinator")

PULSES_PER_INTERVAL = 8
LONGEST_PULSE_SECONDS = 0.25
TOLERATED_PULSES = 2.0
"""A pulse up to this many periods late means a busy loop; a later one means that the coordinator did not run."""
FAILING_SECONDS = 60.0
"""How long pulses may fail before the process exits, since a restart may help."""
REMOVED_PER_PULSE = 50
SYNC_PULSES = 4
SETTLED_PER_SYNC = 500
"""Nodes whose hours of attendance are written in one step. With a million nodes, all steps take half of each hour."""
LOOK_AT_ALL_SECONDS = 3600.0
RESTORED_AT_ONCE_SECONDS = 0.002
RESTORING_SHARE = 0.1
RESTORING_SHARE_COUNTED = 0.5
"""The fraction of the loop's time that reading all nodes may take; the second applies while new nodes wait for it."""
LOST_VOICE_SECONDS = 86_400.0
"""How long a node that is not approved has no voice in the breakers after it went silent. With a shorter time,
strangers whose nodes go silent in turn can hold a breaker open for longer; with a longer time, fewer voices are left
for the next failure."""
_GONE = (Liveness.DOWN, Liveness.LEFT)


class BackgroundLoop:
    """Runs the periodic work of one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._seen_index = coordinator.registry.events.last_index
        self._gone_since: dict[str, float] = {}  # node id: when it went down or left
        self._order: deque[tuple[float, str]] = deque()
        self._lost_voice: dict[str, float] = {}  # nodes that are not approved: when they went silent
        self._failing: set[str] = set()  # steps and chores whose last run failed
        self._has_warned_no_voices = False
        self._note_all_gone()  # for nodes gone before the start, time counts from now on

    async def run(self) -> None:
        """Run until cancelled. Raises the error of a task that cannot continue."""
        parts = [asyncio.ensure_future(part()) for part in (self._pulses, self._chores, self._looks)]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                if part.done():
                    part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _pulses(self) -> None:
        coordinator, loop = self._coordinator, asyncio.get_running_loop()
        period = pulse_seconds(coordinator.settings.shortest_interval_seconds)
        while True:
            before = loop.time()
            await asyncio.sleep(period)
            coordinator.loop_lag_seconds = max(0.0, loop.time() - before - period)
            failure = self.pulse()
            if failure is None:
                coordinator.pulsed()
            elif coordinator.last_pulse_age_seconds > FAILING_SECONDS:
                raise failure

    def pulse(self) -> Optional[Exception]:
        """Run every step, even if another fails. Returns the last error, or None if all steps succeeded."""
        failure = None
        steps = (self._pass_time, self._follow, self._judge, self._pace, self._coordinator.registration_limiter.forget)
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - logged; the other steps still run
                self._note_failed(step.__name__, error)
                failure = error
            else:
                self._failing.discard(step.__name__)
        return failure

    def _note_failed(self, name: str, error: Exception) -> None:
        """Log the failure once, until the step succeeds again."""
        self._coordinator.counters["background failures"] += 1
        if name not in self._failing:
            _log.critical("background work fails: %s", name.strip("_"), exc_info=error)
        self._failing.add(name)

    def _pass_time(self) -> None:
        stood = self._coordinator.clock.pulse()
        if stood > 1.0:
            _log.warning("stood still for %.1f s; that time counts against no node", stood)
        self._coordinator.registry.tick()

    def _judge(self) -> None:
        coordinator = self._coordinator
        opened, closed = coordinator.mass_failure.judge(coordinator.clock.monotonic(), coordinator.interval_seconds)
        self._tell(opened, closed)

    async def _chores(self) -> None:
        """Run the work that waits for the disk. Each chore runs even if another fails."""
        period = pulse_seconds(self._coordinator.settings.shortest_interval_seconds)
        count = 0
        while True:
            await asyncio.sleep(period)
            count += 1
            await self._do(self._remove_the_gone)
            if count % SYNC_PULSES == 0:
                await self._do(self._sync_audit_log)
                await self._do(self._settle_hours)

    async def _do(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except Exception as error:  # noqa: BLE001 - logged; the other chores still run
            self._note_failed(chore.__name__, error)
        else:
            self._failing.discard(chore.__name__)

    async def _sync_audit_log(self) -> None:
        try:
            await _in_thread(self._coordinator.audit.sync)
        except StoreError as error:
            _log.error("the audit log: %s", error)

    async def _settle_hours(self) -> None:
        host = self._coordinator.registry.host
        if not host.hours_are_due:
            return
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
            except Exception as error:  # noqa: BLE001 - one unreadable record must not stop the others
                self._cannot_follow(event.node_id, error)

    def _cannot_follow(self, node_id: str, error: Exception) -> None:
        if not isinstance(error, StoreError):
            _log.error("cannot follow %s", node_id, exc_info=error)
        elif self._coordinator.node_search.damaged.note(error):
            _log.error("cannot follow %s: %s", node_id, error)

    def _note(self, event: Event) -> None:
        coordinator = self._coordinator
        if event.kind is EventKind.DEREGISTERED:
            coordinator.mass_failure.remove(event.node_id)
            if coordinator.registry.host.place(event.node_id) is None:  # otherwise it has registered again
                coordinator.sessions.forget(event.node_id)
            self._gone_since.pop(event.node_id, None)
            return
        if event.kind not in (EventKind.LIVENESS, EventKind.ADMISSION, EventKind.REGISTERED, EventKind.UPDATED):
            return
        if event.kind is EventKind.UPDATED and not coordinator.mass_failure.knows(event.node_id):
            return
        place = coordinator.registry.host.place(event.node_id)
        if place is None:
            return
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
        if place.liveness is Liveness.LEFT or not (place.is_approved or self._keeps_voice(node_id, place)):
            self._coordinator.mass_failure.remove(node_id)
        else:
            self._give_voice(node_id, place, wallet_may_have_changed=wallet_may_have_changed)

    def _give_voice(self, node_id: str, place: Place, *, wallet_may_have_changed: bool = False) -> None:
        mass_failure, host = self._coordinator.mass_failure, self._coordinator.registry.host
        domain = wallet = None
        is_new = not mass_failure.knows(node_id)
        if is_new:
            peer = (host.state(node_id) or {}).get("peer", "")
            domain = network_of(peer) if is_counted(peer) else None
        if is_new or wallet_may_have_changed:
            wallet = canonical_wallet(host.proven_wallet(node_id))
        silent = place.liveness is not Liveness.LIVE
        mass_failure.put(node_id, domain=domain, wallet=wallet, silent=silent, now=self._coordinator.clock.monotonic())

    def _keeps_voice(self, node_id: str, place: Place) -> bool:
        """Does a node that is not approved still have a voice? It loses it after a silence, when down or live again."""
        mass_failure, now = self._coordinator.mass_failure, self._coordinator.clock.monotonic()
        if not mass_failure.knows(node_id):
            return False
        has_fallen = place.liveness is Liveness.DOWN or (
            place.liveness is Liveness.LIVE and mass_failure.is_silent(node_id)
        )
        if has_fallen:
            self._lost_voice[node_id] = now
        return not has_fallen and self._coordinator.registry.host.may_be_given_work(node_id)

    def _gets_voice(self, node_id: str, place: Place) -> bool:
        """Has a node that is not approved been live so long and so steadily that its silence is significant?

        Strangers can run such nodes, but a node that goes silent has no voice for a day, and a network has one voice.
        """
        host = self._coordinator.registry.host
        if place.liveness is not Liveness.LIVE or node_id in self._lost_voice or not host.may_be_given_work(node_id):
            return False
        return not self._coordinator.mass_failure.knows(node_id) and host.is_steady(node_id)

    def _tell(self, opened: Iterable[str], closed: Iterable[str]) -> None:
        for name in opened:
            _log.warning("breaker %s opened: many nodes went silent at once; none is marked down", name)
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

    async def _remove_the_gone(self) -> None:
        now = self._coordinator.clock.monotonic()
        coordinator = self._coordinator
        retention = coordinator.settings.retention_hours * 3600
        for _ in range(REMOVED_PER_PULSE):
            if coordinator.mass_failure.open_breakers or not self._order or self._order[0][0] > now - retention:
                return
            since, node_id = self._order.popleft()
            if self._gone_since.get(node_id) != since:
                continue  # it returned, and may have left again since
            try:
                place = coordinator.registry.host.place(node_id)
                if place is None or place.liveness not in _GONE:
                    self._gone_since.pop(node_id, None)
                    continue
                await coordinator.remove(node_id, "retention")
            except DamagedStoreError as error:  # the record stays until an operator repairs it
                _log.error("cannot remove %s: %s", node_id, error)
                self._gone_since.pop(node_id, None)
                continue
            except StoreError as error:
                _log.error("cannot remove %s: %s", node_id, error)
                self._order.appendleft((since, node_id))
                return
            coordinator.counters["removed"] += 1

    async def _looks(self) -> None:
        """Read all nodes, at the start and every hour."""
        while True:
            now = self._coordinator.clock.monotonic()
            self._lost_voice = {
                node_id: since for node_id, since in self._lost_voice.items() if now - since < LOST_VOICE_SECONDS
            }
            await self._look_at_all()
            self._coordinator.quotas.all_counted()
            self._tell_of_voices()
            await asyncio.sleep(LOOK_AT_ALL_SECONDS)

    async def _look_at_all(self) -> None:
        """Count the nodes of each network and find those with a voice, in short steps that do not block the loop."""
        quotas, host = self._coordinator.quotas, self._coordinator.registry.host
        begun = time.monotonic()
        for node_id in host.ids():
            try:
                place = host.place(node_id)
                quotas.recount(node_id, host.state)
                if place is not None and (place.is_approved or self._gets_voice(node_id, place)):
                    self._give_voice(node_id, place)
            except Exception as error:  # noqa: BLE001 - one unreadable record must not stop the others
                self._cannot_follow(node_id, error)
            if time.monotonic() - begun > RESTORED_AT_ONCE_SECONDS:
                share = RESTORING_SHARE_COUNTED if quotas.are_counting else RESTORING_SHARE
                await asyncio.sleep(RESTORED_AT_ONCE_SECONDS / share)
                begun = time.monotonic()

    def _tell_of_voices(self) -> None:
        """Log once that the breaker is off, and once that it is on again."""
        is_off = (
            not self._coordinator.mass_failure.can_open
            and sum(self._coordinator.registry.host.counts()) >= GLOBAL_LIMIT.least
        )
        if is_off and not self._has_warned_no_voices:
            _log.warning(
                "the mass-failure breaker is off: if this machine loses its network, every silent node is marked down; "
                "the breaker needs %d nodes that are approved (duxnet nodes approve) or were live for about a week",
                GLOBAL_LIMIT.least,
            )
        elif self._has_warned_no_voices and not is_off:
            _log.info("the mass-failure breaker is on: enough nodes are approved, or were live for about a week")
        self._has_warned_no_voices = is_off


async def _in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


def pulse_seconds(shortest_interval_seconds: float) -> float:
    """The time between two pulses."""
    return min(LONGEST_PULSE_SECONDS, shortest_interval_seconds / PULSES_PER_INTERVAL)
