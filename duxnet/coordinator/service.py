"""The coordinator behind its routes: what a registration, a heartbeat or an order does, whatever carries it.

Here: the order of steps and who may take them. Not here: HTTP (`app`, `heartbeat`), the judging of registrations
(`registration`), time (`upkeep`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Optional

import msgspec

from duxnet.coordinator.access import Access, Caller, Permission
from duxnet.coordinator.audit import AuditLog
from duxnet.coordinator.commits import Commits
from duxnet.coordinator.encoded_nodes import EncodedNodes
from duxnet.coordinator.fleet import Fleet
from duxnet.coordinator.ledger import Ledger
from duxnet.coordinator.listening_clock import ListeningClock
from duxnet.coordinator.problems import Refused
from duxnet.coordinator.questions import Questions
from duxnet.coordinator.quotas import Quotas
from duxnet.coordinator.registration import Arrival, Decision, Registrar
from duxnet.coordinator.secrets_files import CoordinatorIdentity
from duxnet.coordinator.sessions import Session, Sessions
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.errors import UnknownNodeError
from registry_core.identity.tokens import SessionToken, seal_session
from registry_core.models.node import Node
from registry_core.models.status import Admission, NodeHealth
from registry_core.node_registry import NodeRegistry
from registry_core.rules.explain import withheld
from registry_core.version import __version__
from registry_core.wire.shapes import CoordinatorInfo, Heartbeat, RegistrationReply, Withheld

__all__ = ["Coordinator"]

_log = logging.getLogger("duxnet.coordinator")

WARMING_INTERVALS = 3.0
"""After a start, how long the list is not yet the whole truth: nodes have not all been heard again."""

LET_IN_PER_SECOND = 1000
"""So many registrations a second are counted on when a crowd is told when to come again. More than one core does: they
come again in vain; fewer: they wait while nobody does anything."""
LONGEST_SPREAD_SECONDS = 60


class HeartbeatAnswer(msgspec.Struct, omit_defaults=True):
    """As `HeartbeatReply`, with the record itself."""

    interval_seconds: float
    health: NodeHealth
    degraded: bool
    withheld: list[Withheld] = []


_encode_answer = msgspec.json.Encoder().encode


class Coordinator:
    """One coordinator. Its coroutines and `beat` belong to one event loop."""

    def __init__(
        self,
        registry: NodeRegistry,
        identity: CoordinatorIdentity,
        ledger: Ledger,
        audit: AuditLog,
        settings: CoordinatorSettings,
        clock: ListeningClock,
    ) -> None:
        self.registry = registry
        self.identity = identity
        self.ledger = ledger
        self.audit = audit
        self.settings = settings
        self.clock = clock
        self.fleet = Fleet()
        self.encoded = EncodedNodes()
        self.access = Access(ledger, time.time)
        self.registrar = Registrar(identity, settings)
        self.sessions = Sessions(identity.secret, self._kept)
        self.counters: Counter[str] = Counter()
        self.proxy_networks = settings.proxy_networks()
        self.interval_seconds = settings.shortest_interval_seconds
        self.loop_lag_seconds = 0.0
        self.started = clock.monotonic()
        self.followers = 0
        self.is_stopping = False
        self._pulse: Optional[asyncio.Event] = None  # made by who waits: in Python 3.9 it is bound to the loop of then
        self._arrivals = 0
        self.turned_away = 0.0  # registrations, of the last seconds: `upkeep` forgets them
        self._in_hand: dict[str, asyncio.Lock] = {}
        self.quotas = Quotas(settings.nodes_per_address, settings.nodes_per_network, registry.host.ids())
        self.commits = Commits(registry, ledger, audit)
        self.questions = Questions(registry)
        self.pace(settings.shortest_interval_seconds)
        registry.count_nodes()  # makes the index now, and not while somebody waits for the first list
        registry.host.hold_down(self.fleet.is_held)

    @property
    def is_warming(self) -> bool:
        """Has it just started, so that a node that is not live may only not have reported yet?"""
        return self.clock.monotonic() - self.started < WARMING_INTERVALS * self.interval_seconds

    @property
    def is_degraded(self) -> bool:
        """Is a breaker open: are silent nodes perhaps alive?"""
        return bool(self.fleet.open_breakers)

    def pace(self, interval_seconds: float) -> None:
        """Ask nodes to report this often, and judge them by it."""
        self.interval_seconds = interval_seconds
        self.registry.host.pace(interval_seconds)

    def pulsed(self) -> None:
        """Wake who waits for the next pulse."""
        waiting, self._pulse = self._pulse, None
        if waiting is not None:
            waiting.set()

    async def next_pulse(self, seconds: float) -> None:
        """Return at the next pulse, or after `seconds`."""
        if self._pulse is None:
            self._pulse = asyncio.Event()
        try:
            await asyncio.wait_for(self._pulse.wait(), seconds)
        except asyncio.TimeoutError:
            return

    def info(self) -> CoordinatorInfo:
        """Who this is."""
        return CoordinatorInfo(
            id=self.identity.id,
            public_key=self.identity.public_key,
            version=__version__,
            join=self.settings.join_policy,
            public_network=self.settings.public_network,
            interval_seconds=self.interval_seconds,
            retention_seconds=self.settings.retention_hours * 3600,
            degraded=self.is_degraded,
        )

    async def register(self, arrival: Arrival) -> RegistrationReply:
        """A node registers itself. Checks in the order of their cost; raises Refused and our other errors."""
        if self._arrivals >= self.settings.registrations_at_once:
            raise self.busy()
        self._arrivals += 1
        try:
            return await self._register(arrival)
        finally:
            self._arrivals -= 1

    def busy(self) -> Refused:
        """Too many at once: come back later, each at another time, spread the wider the more there are."""
        self.turned_away += 1
        spread_seconds = min(LONGEST_SPREAD_SECONDS, 5 + int(self.turned_away / LET_IN_PER_SECOND))
        return Refused(
            "busy", "too many nodes register at once", retry_after_seconds=1 + secrets.randbelow(spread_seconds)
        )

    async def _register(self, arrival: Arrival) -> RegistrationReply:
        unix_now = time.time()
        challenge = self.registrar.check_time(arrival, unix_now)
        node = self.registrar.node_of(arrival)
        if self.registry.get_node(node.id) is None:
            self._check_join_token(arrival, unix_now)
        self.registrar.check_signature(arrival, node, challenge, unix_now)
        async with self._one_at_a_time(node.id):
            decision, known = self._decide(arrival, node)
            if known is None or not decision.repeated:
                known = await self._take_in(arrival, decision, known)
            if known.admission is Admission.BANNED:  # meanwhile
                raise Refused("banned", known.admission_reason)
            generation = arrival.said.generation
            self.sessions.begin(node.id, generation)
        seconds = self.settings.session_hours * 3600
        session = seal_session(SessionToken(node.id, generation, int(unix_now + seconds)), self.identity.secret)
        return self._reply(known, generation, session, seconds)

    def _decide(self, arrival: Arrival, node: Node) -> tuple[Decision, Optional[Node]]:
        known = self.registry.get_node(node.id)
        state: Optional[Mapping[str, Any]] = self.registry.host.state(node.id) if known is not None else None
        if known is None:
            buried = self.ledger.tombstone(node.id)
            if buried is not None and buried[1]:
                raise Refused("banned", buried[1])
            if buried is not None and arrival.said.generation <= buried[0]:
                raise Refused(
                    "stale-generation", "the node was removed after a later one", current_generation=buried[0]
                )
        if state is None or "links" not in state:  # removed before, and perhaps registered by an operator since
            replaced = self.ledger.buried_key(node.id)
            state = {**(state or {}), **({"links": replaced[0], "key": replaced[1]} if replaced else {})}
        return self.registrar.decide(arrival, node, known, state), known

    async def _take_in(self, arrival: Arrival, decision: Decision, known: Optional[Node]) -> Node:
        """Count the node for its peer, then commit: counted later, all who come at once would be within the quota."""
        if known is None and self.quotas.are_counting:
            raise self.busy()
        earlier = None if known is None else (self.registry.host.state(known.id) or {}).get("peer")
        pending = self._reason_to_wait(arrival.peer) if known is None else ""
        self.quotas.moves(decision.node.id, earlier, arrival.peer)
        try:
            return await self.commits.made(lambda: self._commit(arrival, decision, known, pending))
        except BaseException:
            self.quotas.took_nothing(earlier, arrival.peer)
            raise

    def _commit(self, arrival: Arrival, decision: Decision, known: Optional[Node], pending: str) -> Node:
        """The token, the log, the record. A crash between them is mended by the node's own repetition."""
        node_id = decision.node.id
        if known is None:
            if self.settings.join_policy == "token" and not self.ledger.join(
                arrival.said.join_token, node_id, time.time()
            ):
                raise Refused("join-token", "the join token is not known, used up, revoked or expired")
            self.audit.note(f"node {node_id}", "registered", node_id, pending=pending)
        self.registry.host.register(
            decision.node,
            interval_seconds=arrival.said.interval_seconds,
            state=decision.host_state,
            pending_reason=pending,
        )
        if decision.contested and (known is None or known.cordon is None):
            self.audit.note("coordinator", "contested", node_id, reason=decision.contested)
            _log.warning("%s is cordoned: %s", node_id, decision.contested)
            self.registry.admin.cordon(node_id, reason=decision.contested, actor="coordinator")
        return self._registered(node_id)

    def _registered(self, node_id: str) -> Node:
        node = self.registry.get_node(node_id)
        if node is None:  # removed in the same instant
            raise UnknownNodeError(node_id)
        return node

    def _check_join_token(self, arrival: Arrival, unix_now: float) -> None:
        """Before the dear checks: could this token let a new node in?"""
        if self.settings.join_policy != "token":
            return
        if not arrival.said.join_token:
            raise Refused("join-token", "this network lets nodes in by join token only, and none was given")
        token = self.ledger.find(arrival.said.join_token)
        if token is None or token.role != "join" or token.revoked is not None:
            raise Refused("join-token", "what was given is no join token of this network, or a revoked one")
        if not token.is_valid(unix_now) and token.used == 0:
            raise Refused("join-token", "the join token has expired")

    def _reason_to_wait(self, peer: Optional[str]) -> str:
        if self.settings.join_policy == "approval":
            return "approval"
        return "quota" if self.quotas.are_full(peer) else ""

    def _one_at_a_time(self, node_id: str) -> _Turn:
        return _Turn(self._in_hand, node_id)

    def _reply(
        self, node: Node, generation: int = 0, session: str = "", session_seconds: float = 0.0
    ) -> RegistrationReply:
        return RegistrationReply(
            node_id=node.id,
            generation=generation,
            session=session,
            session_seconds=session_seconds,
            interval_seconds=self.interval_seconds,
            admission=str(node.admission),
            admission_reason=node.admission_reason,
            coordinator=self.identity.id,
            degraded=self.is_degraded,
        )

    async def register_for(self, caller: Caller, node: Node, interval_seconds: float) -> RegistrationReply:
        """An operator registers or changes a node, which gets no session."""
        caller.need(Permission.OPERATE)
        async with self._one_at_a_time(node.id):
            known = self.registry.get_node(node.id)
            state = dict(self.registry.host.state(node.id) or {"managed_by": "operator"})

            def change() -> Node:
                self.audit.note(caller.name, "registered" if known is None else "changed", node.id)
                self.registry.host.register(node, interval_seconds=interval_seconds, state=state)
                return self._registered(node.id)

            return self._reply(await self.commits.made(change))

    def beat(self, authorization: str, node_id: str, said: Heartbeat) -> bytes:
        """A heartbeat: the answer's body. Soft: waits for nothing. Raises Refused and our other errors."""
        token = _bearer(authorization)
        if token.startswith("dux_"):
            self.access.caller(authorization).need(Permission.OPERATE)
            return self._taken(node_id, said)
        session = self.sessions.of_token(token, node_id, time.time())
        if said.sequence <= session.sequence:
            if said.sequence == session.sequence:
                return session.answer
            raise Refused("stale-sequence", f"sequence {said.sequence} is not above {session.sequence}")
        wait = session.take(self.clock.monotonic(), self.interval_seconds)
        if wait:
            raise Refused("too-many-requests", "more heartbeats than asked for", retry_after_seconds=wait)
        answer = self._taken(node_id, said)
        session.sequence = said.sequence
        session.answer = answer
        if said.gap is not None:
            session.gap = said.gap
        return answer

    def _taken(self, node_id: str, said: Heartbeat) -> bytes:
        health = self.registry.update_node_health(node_id, said.load_average, said.memory_usage, said.disk_usage)
        answer = HeartbeatAnswer(self.interval_seconds, health, bool(self.fleet.open_breakers))
        if not self.registry.host.may_be_given_work(node_id):
            found = withheld(self._registered(node_id))
            answer.withheld = [Withheld(each.condition, each.found, each.remedy) for each in found]
        return _encode_answer(answer)

    async def remove(self, node_id: str, actor: str) -> bool:
        """Remove a node for good; False when it was not there. What a later registration is judged by is kept."""
        async with self._one_at_a_time(node_id):
            known = self.registry.get_node(node_id)
            if known is None:
                return False
            state = self.registry.host.state(node_id) or {}
            generation = state.get("generation")
            ban = (known.admission_reason or "banned") if known.admission is Admission.BANNED else ""

            def change() -> None:
                self.audit.note(actor, "removed", node_id)
                if state.get("links") and state.get("key"):
                    self.ledger.bury_key(node_id, state["links"], state["key"], time.time())
                self.ledger.bury(node_id, generation if isinstance(generation, int) else -1, ban, time.time())
                self.registry.deregister_node(node_id)

            await self.commits.made(change)
            self.quotas.leaves(node_id, state.get("peer"))
            self.sessions.forget(node_id)
        return True

    def speaks_for(self, authorization: str, node_id: str) -> Session:
        """The node's session that the header proves. Raises Refused."""
        return self.sessions.of_token(_bearer(authorization), node_id, time.time())

    def _kept(self, node_id: str) -> Optional[tuple[int, str]]:
        node = self.registry.get_node(node_id)
        if node is None:
            return None
        generation = (self.registry.host.state(node_id) or {}).get("generation")
        ban = (node.admission_reason or "banned") if node.admission is Admission.BANNED else ""
        return generation if isinstance(generation, int) else -1, ban

    def close(self) -> None:
        """Finish what is being committed; close the log, the ledger and the registry."""
        self.questions.close()
        self.commits.close()
        self.audit.close()
        self.ledger.close()
        self.registry.close()


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("token-required", "a node sends Authorization: Bearer with its session's token")
    return token


class _Turn:
    """One change of a node at a time; locks exist only while somebody holds or waits."""

    def __init__(self, locks: dict[str, asyncio.Lock], node_id: str) -> None:
        self._locks = locks
        self._node_id = node_id

    async def __aenter__(self) -> None:
        lock = self._locks.get(self._node_id)
        if lock is None:
            lock = self._locks[self._node_id] = asyncio.Lock()
        await lock.acquire()

    async def __aexit__(self, *_exception: object) -> None:
        lock = self._locks[self._node_id]
        lock.release()
        if not lock.locked() and not getattr(lock, "_waiters", None):
            del self._locks[self._node_id]
