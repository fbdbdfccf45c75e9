"""Processes a registration in the commit thread, from the request to the body of its answer.

Here: the order of the steps, the cheapest first; join tokens, quotas, the record, the session, the answer's signature.
Not here: HTTP (`routes.registration`), the decision (`decision`), durability (`commit_queue`). One thread processes
registrations one at a time, so that no two of them conflict over a node, a token or a quota, while the event loop
continues to answer heartbeats.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Callable, NamedTuple, Optional

import msgspec

from duxnet.coordinator.access.audit_log import AuditLog
from duxnet.coordinator.access.own_identity import CoordinatorIdentity
from duxnet.coordinator.access.roles import Access, Permission
from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.admission.decision import Decision, Registrar, RegistrationRequest
from duxnet.coordinator.admission.growth import Growth
from duxnet.coordinator.admission.quotas import Quotas
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import decoded
from duxnet.coordinator.liveness.mass_failure import MassFailureDetector
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.host import Known, RemovedNode
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import ValidationError
from registry_core.identity.answer_signature import OLD_SEAL_HEADER, SignedAnswer, old_seal, sign_answer
from registry_core.identity.signatures import SignatureRefused, claimed_signature
from registry_core.identity.tokens import SessionToken, seal_session
from registry_core.models.encoding import node_from_plain
from registry_core.models.node import Node
from registry_core.models.status import Admission
from registry_core.wire.shapes import LAST_GENERATION, PROTOCOL, Registration, RegistrationReply

__all__ = ["AdmissionPipeline", "Registered"]

_log = logging.getLogger("duxnet.coordinator")


class _Protocol(msgspec.Struct):
    protocol: int = 1


_decode = msgspec.json.Decoder(Registration).decode
_decode_protocol = msgspec.json.Decoder(_Protocol).decode


class Registered(NamedTuple):
    """The result of a registration: the answer's body, and the headers that prove it to the node.

    `generation` is the generation of its session, or None. `refused` is set if the stored node is banned.
    """

    node_id: str
    body: bytes
    proof: Mapping[str, str] = {}
    generation: Optional[int] = None
    refused: Optional[Refused] = None


class AdmissionPipeline:
    """Used in the commit thread; the event loop sets `interval_seconds`."""

    def __init__(
        self,
        registry: NodeRegistry,
        identity: CoordinatorIdentity,
        token_store: TokenStore,
        audit: AuditLog,
        settings: CoordinatorSettings,
        quotas: Quotas,
        mass_failure: MassFailureDetector,
        access: Access,
    ) -> None:
        self._registry = registry
        self._identity = identity
        self._token_store = token_store
        self._audit = audit
        self._settings = settings
        self._quotas = quotas
        self._mass_failure = mass_failure
        self._access = access
        self._started_unix = time.time()
        self._registrar = Registrar(identity, settings)
        self._growth = Growth(registry, settings.nodes_at_most, settings.new_nodes_per_minute)
        self._join_policy = settings.join_policy
        self.interval_seconds = settings.shortest_interval_seconds

    def prepare(self, request: RegistrationRequest) -> Callable[[], Registered]:
        """Check what needs no commit: form, time, join token, signature. Returns the change to commit.

        Raises RegistryError, usually Refused.
        """
        registration = _decoded(request.body)
        headers = request.headers
        if "signature-input" not in headers and "authorization" in headers:
            return self._prepare_order(headers["authorization"], request.node_id, registration)
        unix_now = time.time()
        claimed = claimed_signature(headers)
        challenge = self._registrar.check_time(claimed.parameters, unix_now)
        node = self._registrar.node_of(request, registration)
        if self._join_policy == "token" and self._registry.host.place(node.id) is None:
            self._check_join_token(registration.join_token, unix_now)
        self._registrar.check_signature(request, registration, node, claimed, challenge, unix_now)
        return partial(self._keep, request, registration, node, claimed.parameters.created, unix_now)

    def _prepare_order(self, authorization: str, node_id: str, registration: Registration) -> Callable[[], Registered]:
        caller = self._access.caller(authorization)
        caller.need(Permission.OPERATE)
        node = node_from_plain(registration.node)
        if node.id != node_id:
            raise ValidationError("node.id", node.id, "must be the id in the URL")
        return partial(self._keep_order, caller.name, registration, node)

    def _keep(
        self,
        request: RegistrationRequest,
        registration: Registration,
        node: Node,
        signed_at: int,
        unix_now: float,
    ) -> Registered:
        """Decide on a registration with a valid signature, store the node and return the result."""
        known = self._registry.host.known(node.id)
        decision = self._decided(request, registration, node, known)
        kept = known.node if known and decision.repeated else self._register(request, registration, decision, known)
        if decision.repeated and signed_at < int(self._started_unix):  # maybe already answered: see `Sessions.begin`
            generation = registration.generation
            raise Refused("stale-generation", "it was signed before this start", current_generation=generation)
        seconds = self._settings.session_hours * 3600
        token = SessionToken(node.id, registration.generation, int(unix_now + seconds))
        session = seal_session(token, self._identity.secret)
        body = self._reply(kept, registration.protocol, registration.generation, session, seconds)
        proof = self.sign(request, SignedAnswer(200, "application/json", body))
        if registration.protocol == 1:
            proof[OLD_SEAL_HEADER] = old_seal(request.headers["signature"], body, self._identity.key)
        return Registered(
            node.id,
            body,
            proof,
            registration.generation,
            Refused("banned", kept.admission_reason) if kept.admission is Admission.BANNED else None,
        )

    def _keep_order(self, actor: str, registration: Registration, node: Node) -> Registered:
        """Store an operator's registration unchanged, even in place of a damaged record."""
        found = self._registry.host.remains(node.id)
        state = (found.state if found is not None else {}) or {"managed_by": "operator"}
        self._audit.note(actor, "registered" if found is None else "changed", node.id)
        kept = self._registry.host.register(node, interval_seconds=registration.interval_seconds, state=state)
        return Registered(node.id, self._reply(kept, registration.protocol))

    def sign(self, request: RegistrationRequest, answer: SignedAnswer) -> dict[str, str]:
        """Returns the headers that prove the answer to a signed request, else none. Any thread may call it."""
        identity = self._identity
        try:
            signed = request.signed_for(identity.id)
            return sign_answer(answer, signed, request.headers, identity.key, identity.id, int(time.time()))
        except SignatureRefused:  # not signed, or changed in transit
            return {}

    def _decided(
        self, request: RegistrationRequest, registration: Registration, node: Node, known: Optional[Known]
    ) -> Decision:
        state = None if known is None else known.state
        if state is None or "links" not in state:  # it may have been removed, then registered by an operator
            removed = self._registry.host.removed(node.id)
            if removed is not None:
                if known is None:
                    self._refuse_removed(removed, registration.generation)
                if removed.state.get("links"):
                    state = {**(state or {}), "links": removed.state["links"], "key": removed.state["key"]}
        known_node = None if known is None else known.node
        return self._registrar.decide(request, registration, node, known_node, state, self.interval_seconds)

    @staticmethod
    def _refuse_removed(removed: RemovedNode, generation: int) -> None:
        if removed.ban:
            raise Refused("banned", removed.ban)
        last = removed.state.get("generation")
        if isinstance(last, int) and generation <= last < LAST_GENERATION:
            raise Refused(
                "stale-generation",
                "the node was removed after a later one",
                current_generation=last,
            )

    def _register(
        self, request: RegistrationRequest, registration: Registration, decision: Decision, known: Optional[Known]
    ) -> Node:
        """Store token use, audit line and record. After a crash in between, the node's retry completes them."""
        node_id = decision.node.id
        pending = self._reason_to_wait(request.peer) if known is None else ""
        if known is None:
            self._growth.take(request.peer)
            self._make_room()
            if self._join_policy == "token" and not self._token_store.join(
                registration.join_token, node_id, time.time()
            ):
                raise Refused("join-token", "the join token is unknown, used up, revoked or expired")
            self._audit.note(f"node {node_id}", "registered", node_id, pending=pending)
        kept = self._registry.host.register(
            decision.node,
            interval_seconds=registration.interval_seconds,
            state=decision.host_state,
            pending_reason=pending,
        )
        if known is None:
            self._growth.came(node_id, request.peer)
        self._quotas.move(node_id, None if known is None else known.state.get("peer"), request.peer)
        if decision.contested and (known is None or known.node.cordon is None):
            self._audit.note("coordinator", "contested", node_id, reason=decision.contested)
            _log.warning("%s is cordoned: %s", node_id, decision.contested)
            self._registry.admin.cordon(node_id, reason=decision.contested, actor="coordinator")
        return kept

    def _make_room(self) -> None:
        """At the maximum number of nodes, remove one that never completed a task, and keep nothing of it."""
        newcomer = self._growth.make_room(self._quotas.arrived)
        if newcomer is None:
            return
        self._audit.note("coordinator", "removed", newcomer.node_id, reason="to make room: see nodes_at_most")
        self._registry.deregister_node(newcomer.node_id)
        self._quotas.move(newcomer.node_id, newcomer.peer, None)

    def _check_join_token(self, secret: str, unix_now: float) -> None:
        """Raise Refused unless this token may admit a new node."""
        if not secret:
            raise Refused("join-token", "this network requires a join token, and none was given")
        token = self._token_store.find(secret)
        if token is None or token.role != "join" or token.revoked is not None:
            raise Refused("join-token", "join_token is not a join token of this network, or is revoked")
        if not token.is_valid(unix_now) and token.used == 0:
            raise Refused("join-token", "the join token has expired")

    def _reason_to_wait(self, peer: Optional[str]) -> str:
        if self._join_policy == "approval":
            return "approval"
        return "quota" if self._quotas.are_full(peer) else ""

    def _reply(
        self, node: Node, protocol: int, generation: int = 0, session: str = "", session_seconds: float = 0.0
    ) -> bytes:
        return msgspec.json.encode(
            RegistrationReply(
                node_id=node.id,
                generation=generation,
                session=session,
                session_seconds=session_seconds,
                interval_seconds=self.interval_seconds,
                admission=str(node.admission),
                admission_reason=node.admission_reason,
                coordinator=self._identity.id,
                degraded=bool(self._mass_failure.open_breakers),
                protocol=protocol,
            )
        )


def _decoded(body: bytes) -> Registration:
    """Decodes a registration. Raises Refused, also for an unsupported protocol version."""
    try:
        registration = decoded(body, _decode)
    except Refused:
        _check_protocol(decoded(body, _decode_protocol).protocol)  # another version may have a different form
        raise
    _check_protocol(registration.protocol)
    return registration


def _check_protocol(protocol: int) -> None:
    if PROTOCOL - 1 <= protocol <= PROTOCOL:
        return
    older = "coordinator" if protocol > PROTOCOL else "node"
    raise Refused("protocol", f"this coordinator speaks protocol {PROTOCOL}, the node {protocol}: upgrade the {older}")
