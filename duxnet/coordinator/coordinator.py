"""The coordinator behind its routes: it processes registrations, heartbeats and removals.

Here: permissions, and limits of concurrent work. Not here: HTTP (`front`, `routes`), the steps of a registration
(`admission.pipeline`), periodic work (`background`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Optional

import msgspec

from duxnet.coordinator.access.audit_log import AuditLog
from duxnet.coordinator.access.browsers import HostNames
from duxnet.coordinator.access.forwarding import Forwarding
from duxnet.coordinator.access.own_identity import CoordinatorIdentity
from duxnet.coordinator.access.places import Holder, WaitingPlaces
from duxnet.coordinator.access.roles import ANONYMOUS, Access, Caller, Permission
from duxnet.coordinator.access.sessions import Session, Sessions
from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.admission.backpressure import RegistrationLimiter
from duxnet.coordinator.admission.decision import RegistrationRequest
from duxnet.coordinator.admission.networks import near
from duxnet.coordinator.admission.pipeline import AdmissionPipeline, Registered
from duxnet.coordinator.admission.quotas import Quotas
from duxnet.coordinator.commit_queue import CommitQueue
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.event_feed import EventFeed
from duxnet.coordinator.http.messages import Request
from duxnet.coordinator.json_cache import EncodedNodes
from duxnet.coordinator.liveness.listening_clock import ListeningClock
from duxnet.coordinator.liveness.mass_failure import MassFailureDetector
from duxnet.coordinator.node_search import NodeSearch
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.host import Known
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import UnknownNodeError
from registry_core.identity.tokens import open_session
from registry_core.models import limits
from registry_core.models.status import Admission, NodeHealth
from registry_core.query.conditions import withheld
from registry_core.version import __version__
from registry_core.wire.shapes import PROTOCOL, CoordinatorInfo, Heartbeat, Withheld

__all__ = ["Coordinator"]

_log = logging.getLogger("duxnet.coordinator")

OLD_PULSE_SECONDS = 10.0
"""Pulses run at least four times a second. After a longer gap than this, the background work counts as stopped."""
MOST_FOLLOWERS = 500
"""Maximum number of streams and long polls without a token, and of those with one. Each takes about 20 KiB."""
MOST_LEAVING = 1000
"""Maximum number of nodes whose leave or removal waits for its commit, a quarter of a second's work; operators may have
as many again."""
WARMING_INTERVALS = 3.0
"""How long after a start lists may be incomplete, since not all nodes have reported again."""


class HeartbeatAnswer(msgspec.Struct, omit_defaults=True):
    """As `HeartbeatReply`, with the `NodeHealth` record itself."""

    interval_seconds: float
    health: NodeHealth
    degraded: bool
    withheld: list[Withheld] = []


_encode_answer = msgspec.json.Encoder().encode


class Coordinator:
    """One coordinator. Its coroutines and `beat` are used in one event loop."""

    def __init__(
        self,
        registry: NodeRegistry,
        identity: CoordinatorIdentity,
        token_store: TokenStore,
        audit: AuditLog,
        settings: CoordinatorSettings,
        clock: ListeningClock,
    ) -> None:
        self.registry = registry
        self.identity = identity
        self.token_store = token_store
        self.audit = audit
        self.settings = settings
        self.clock = clock
        self.mass_failure = MassFailureDetector()
        self.encoded = EncodedNodes()
        self.access = Access(token_store, time.time)
        self.sessions = Sessions(identity.secret, self._kept_generation)
        self.counters: Counter[str] = Counter()
        self.forwarding = Forwarding(settings.proxy_networks())
        self.host_names = HostNames([settings.host, *settings.hosts])
        self.interval_seconds = settings.shortest_interval_seconds
        self.loop_lag_seconds = 0.0
        self.started = clock.monotonic()
        self._last_pulse = time.monotonic()
        self.background_failure: Optional[BaseException] = None
        self.event_feed = EventFeed(registry.events)
        self.bound_followers(MOST_FOLLOWERS)
        self.leaving = WaitingPlaces(MOST_LEAVING, "nodes leave at once", retry_after_seconds=1)
        self.registration_limiter = RegistrationLimiter(settings.registrations_at_once)
        self.quotas = Quotas(settings.nodes_per_address, settings.nodes_per_network, registry.host.ids)
        self.admission = AdmissionPipeline(
            registry,
            identity,
            token_store,
            audit,
            settings,
            self.quotas,
            self.mass_failure,
            self.access,
        )
        self.commit_queue = CommitQueue(registry, token_store, audit, self.quotas)
        self.node_search = NodeSearch(registry)
        self.pace(settings.shortest_interval_seconds)
        registry.count_nodes()  # builds the index now, not during the first request
        registry.host.hold_down(self.mass_failure.is_held)

    @property
    def is_warming(self) -> bool:
        """Has it started so recently that some nodes may not have reported yet?"""
        return self.clock.monotonic() - self.started < WARMING_INTERVALS * self.interval_seconds

    @property
    def is_degraded(self) -> bool:
        """Is a breaker open, so that silent nodes may be alive?"""
        return bool(self.mass_failure.open_breakers)

    def pace(self, interval_seconds: float) -> None:
        """Set the interval at which nodes must report, and by which their liveness is judged."""
        self.interval_seconds = self.admission.interval_seconds = interval_seconds
        self.registry.host.pace(interval_seconds)

    def pulsed(self) -> None:
        """Record that the background loop has completed a pulse."""
        self._last_pulse = time.monotonic()

    @property
    def last_pulse_age_seconds(self) -> float:
        """Seconds since the last complete pulse, by a clock that advances even while the loop does not run."""
        return time.monotonic() - self._last_pulse

    @property
    def is_pulsing(self) -> bool:
        """Does the background work run?"""
        return self.background_failure is None and self.last_pulse_age_seconds < OLD_PULSE_SECONDS

    @property
    def followers(self) -> int:
        """The number of callers that wait for events."""
        return self.following.in_hand

    def bound_followers(self, most: int) -> None:
        """Limit the number of streams and long polls. Called before the coordinator serves requests."""
        places = max(1, min(most, MOST_FOLLOWERS))
        self.following = WaitingPlaces(places, "callers follow the events", retry_after_seconds=30)

    def holder(self, request: Request, caller: Caller) -> Holder:
        """Returns the owner of the place that a waiting request takes."""
        if caller is not ANONYMOUS:
            return Holder(caller.name, has_token=True)
        return Holder(near(self.forwarding.peer(request.client, request.headers)), has_token=False)

    def info(self) -> CoordinatorInfo:
        """The identity and settings that every caller may see."""
        return CoordinatorInfo(
            id=self.identity.id,
            public_key=self.identity.public_key,
            version=__version__,
            join=self.settings.join_policy,
            public_network=self.settings.public_network,
            interval_seconds=self.interval_seconds,
            retention_seconds=self.settings.retention_hours * 3600,
            degraded=self.is_degraded,
            protocol=PROTOCOL,
        )

    async def register(self, request: RegistrationRequest) -> Registered:
        """Register a node, for itself or for an operator. Returns the result once it is durable.

        Raises RegistryError, usually Refused. If too many registrations are already waiting, callers get a randomised
        Retry-After; operators are exempt.
        """
        network = near(request.peer)
        has_room = self.registration_limiter.has_room(network)
        if has_room and self.quotas.are_counting:
            has_room = self.registry.host.place(request.node_id) is not None
        if not has_room and not self._is_by_operator(request):
            raise self.registration_limiter.turned_away()
        self.registration_limiter.enter(network)
        try:
            registered = await self.commit_queue.prepare_and_run(lambda: self.admission.prepare(request))
        finally:
            self.registration_limiter.leave(network)
        if registered.refused is not None:
            raise registered.refused
        if registered.generation is not None:
            self.sessions.begin(registered.node_id, registered.generation, request.headers["signature-input"])
        self.counters["registrations"] += 1
        return registered

    def _is_by_operator(self, request: RegistrationRequest) -> bool:
        """Does the request have an operator's token? Raises Refused for another token."""
        headers = request.headers
        if "signature-input" in headers or "authorization" not in headers:
            return False
        self.access.caller(headers["authorization"]).need(Permission.OPERATE)
        return True

    def beat(self, authorization: str, node_id: str, heartbeat: Heartbeat) -> bytes:
        """Process a heartbeat, without waiting; returns the answer's body. Raises RegistryError, usually Refused."""
        if _bearer(authorization).startswith("dux_"):
            self.access.caller(authorization).need(Permission.OPERATE)
            return self._taken(node_id, heartbeat)
        session = self.speaks_for(authorization, node_id)
        if heartbeat.sequence <= session.sequence:
            if heartbeat.sequence == session.sequence:
                return session.answer
            raise Refused("stale-sequence", f"sequence {heartbeat.sequence} is not above {session.sequence}")
        if heartbeat.gap is not None:
            for name, text in (
                ("from", heartbeat.gap.begin),
                ("to", heartbeat.gap.to),
                ("reason", heartbeat.gap.reason),
            ):
                limits.refuse_hidden(f"gap.{name}", text)
        wait = session.take(self.clock.monotonic(), self.interval_seconds)
        if wait:
            raise Refused("too-many-requests", "more heartbeats than requested", retry_after_seconds=wait)
        answer = self._taken(node_id, heartbeat)
        session.sequence = heartbeat.sequence
        session.answer = answer
        if heartbeat.gap is not None:
            session.gap = heartbeat.gap
        return answer

    def _taken(self, node_id: str, heartbeat: Heartbeat) -> bytes:
        reasons: list[Withheld] = []
        if not self.registry.host.may_be_given_work(node_id):
            node = self.registry.get_node(node_id)
            if node is None:  # removed in the meantime
                raise UnknownNodeError(node_id)
            reasons = [Withheld(each.condition, each.found, each.remedy) for each in withheld(node)]
        health = self.registry.update_node_health(
            node_id, heartbeat.load_average, heartbeat.memory_usage, heartbeat.disk_usage
        )
        return _encode_answer(
            HeartbeatAnswer(self.interval_seconds, health, bool(self.mass_failure.open_breakers), reasons)
        )

    async def remove(self, node_id: str, actor: str, *, by_operator: bool = False) -> bool:
        """Remove a node. Returns False if it was not registered.

        What a later registration is checked against is kept. An operator may also remove a damaged record, of which
        only a ban is kept.
        """
        was_there = await self.commit_queue.run(lambda: self._removed(node_id, actor, by_operator=by_operator))
        if was_there:
            self.sessions.forget(node_id)
        return was_there

    def _removed(self, node_id: str, actor: str, *, by_operator: bool = False) -> bool:
        """Called in the commit thread."""
        host = self.registry.host
        known = host.remains(node_id) if by_operator else host.known(node_id)  # only operators remove damaged records
        if known is None:
            return False
        self.audit.note(actor, "removed", node_id)
        earlier = host.removed(node_id)
        kept = _judged_by_later(known.state, {} if earlier is None else earlier.state)
        host.deregister(node_id, state=kept, lasts="links" in kept)
        self.quotas.move(node_id, known.state.get("peer"), None)
        return True

    def speaks_for(self, authorization: str, node_id: str) -> Session:
        """Returns the node's session that the header proves. Raises Refused, also if the node has since been banned."""
        session = self.sessions.of_token(_bearer(authorization), node_id, time.time())
        if not self.registry.host.may_be_given_work(node_id):
            node = self.registry.get_node(node_id)
            if node is not None and node.admission is Admission.BANNED:
                raise Refused("banned", node.admission_reason or "banned")
        return session

    def is_authenticated(self, authorization: str) -> bool:
        """Does the header have a valid token of a caller or of a node's session, whatever it permits?"""
        if not authorization:
            return False
        token = authorization.partition(" ")[2]
        try:
            if token.startswith("dux_"):
                return self.access.caller(authorization) is not ANONYMOUS
        except Refused:
            return False
        session = open_session(token, self.identity.secret)
        return session is not None and session.expires > time.time()

    def _kept_generation(self, node_id: str) -> Optional[int]:
        known = self.registry.host.known(node_id)
        return None if known is None else _session_terms(known)[0]

    def close(self) -> None:
        """Finish the current commit; close the audit log, the token store and the registry."""
        self.node_search.close()
        self.commit_queue.close()
        self.audit.close()
        self.token_store.close()
        self.registry.close()


def _session_terms(known: Known) -> tuple[int, str]:
    """Returns the generation of the node's session, or -1 without one, and the reason of its ban, or ""."""
    generation = known.state.get("generation")
    ban = (known.node.admission_reason or "banned") if known.node.admission is Admission.BANNED else ""
    return generation if isinstance(generation, int) else -1, ban


def _judged_by_later(state: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a later registration of a removed node is checked against: its last generation and newest key."""
    kept = {}
    generations = [each for each in (state.get("generation"), earlier.get("generation")) if isinstance(each, int)]
    if generations:
        kept["generation"] = max(generations)
    replaced = state if state.get("links") and state.get("key") else earlier
    if replaced.get("links"):
        kept.update(links=replaced["links"], key=replaced["key"])
    return kept


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Refused("token-required", "header authorization: must be Bearer with the session token of the node")
    return token
