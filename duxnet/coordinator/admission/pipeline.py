"""Taking nodes in, in the committing thread: from what a request carried to the body of its answer.

Here: the order of steps, in the order of what they cost, join tokens, quotas, the record, the session, the seals. Not
here: HTTP (`registration`), the verdict (`registration`), durability and who shares a commit (`commits`). One thread
does all of it, one registration after the other: no two of them can be of two minds about a node, a token or a quota,
and the event loop goes on answering heartbeats meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional, Union

import msgspec

from duxnet.coordinator.access.audit_log import AuditLog
from duxnet.coordinator.access.forwarding import Forwarding
from duxnet.coordinator.access.own_identity import CoordinatorIdentity
from duxnet.coordinator.access.roles import Access, Permission
from duxnet.coordinator.access.token_store import TokenStore
from duxnet.coordinator.admission.decision import Arrival, Decision, Registrar
from duxnet.coordinator.admission.growth import Growth
from duxnet.coordinator.admission.quotas import Quotas
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.http.messages import decoded
from duxnet.coordinator.liveness.mass_failure import MassFailureDetector
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import ValidationError
from registry_core.identity.coordinator_id import seal_answers
from registry_core.identity.signatures import AUDIENCE_HEADER, ClaimedSignature, claimed_signature
from registry_core.identity.tokens import SessionToken, seal_session
from registry_core.models.encoding import node_from_plain
from registry_core.models.node import Node
from registry_core.models.status import Admission
from registry_core.wire.shapes import LAST_GENERATION, Registration, RegistrationReply

__all__ = ["AdmissionPipeline", "RegistrationRequest", "TakenIn"]

_log = logging.getLogger("duxnet.coordinator")

_decode = msgspec.json.Decoder(Registration).decode
_ASKED = {
    name.encode("ascii"): name
    for name in ("signature-input", "signature", "content-digest", "content-type", AUDIENCE_HEADER, "authorization")
}


class RegistrationRequest(NamedTuple):
    """What a carrier passes on: path and query as they came and were signed, and where the connection came from."""

    node_id: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    client: Optional[str]


@dataclass
class TakenIn:
    """What follows from a registration: the answer's body and its seal, which only a node's own request gets.

    `refused` says why the node that is kept may not speak. `generation` is that of its session, None without one.
    """

    node_id: str
    body: bytes
    generation: Optional[int] = None
    request_signature: str = ""
    refused: Optional[Refused] = None
    seal: str = ""


class _Own(NamedTuple):
    """A node's own registration, read and not yet proven. `challenge`: the nonce of ours that it answers, or ""."""

    arrival: Arrival
    node: Node
    claimed: ClaimedSignature
    challenge: str
    unix_now: float


class _Ordered(NamedTuple):
    """A registration by an operator."""

    actor: str
    node: Node
    interval_seconds: float


class AdmissionPipeline:
    """Its steps belong to the committing thread; `interval_seconds` is set by the loop, which also asks `peer_of`."""

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
        forwarding: Forwarding,
    ) -> None:
        self._registry = registry
        self._identity = identity
        self._token_store = token_store
        self._audit = audit
        self._settings = settings
        self._quotas = quotas
        self._mass_failure = mass_failure
        self._access = access
        self._registrar = Registrar(identity, settings)
        self._forwarding = forwarding
        self._growth = Growth(registry, settings.nodes_at_most, settings.new_nodes_per_minute)
        self._join_policy = settings.join_policy
        self.interval_seconds = settings.shortest_interval_seconds

    def steps(self) -> tuple[Callable[[Any], Any], ...]:
        """What makes a `TakenIn` of a request and its peer: read, prove, keep. Each raises Refused and other errors.

        They are apart so that all that arrive together take each step together: signatures are then checked one after
        the other, which costs a sixth less of the whole, and without keeping others from the registry.
        """
        return self._read, self._prove, self._keep

    def seal(self, taken: Sequence[object]) -> None:
        """Seal the answers to nodes among the results of one commit, with one signature for all."""
        to_nodes = [each for each in taken if isinstance(each, TakenIn) and each.request_signature]
        if not to_nodes:
            return
        answers = [(each.request_signature, each.body) for each in to_nodes]
        for each, seal in zip(to_nodes, seal_answers(answers, self._identity.key)):
            each.seal = seal

    def peer_of(self, request: RegistrationRequest) -> Optional[str]:
        """Where it came from: the connection, or what a named proxy says. Raises Refused."""
        return self._forwarding.peer(request.client, request.headers)

    def _read(self, arrived: tuple[RegistrationRequest, Optional[str]]) -> Union[_Own, _Ordered]:
        """What it says, and the cheap checks: form, time, whether a join token could let it in."""
        request, peer = arrived
        headers = _by_name(request.headers)
        said = decoded(request.body, _decode)
        if "signature-input" not in headers and "authorization" in headers:
            return self._read_order(headers["authorization"], request.node_id, said)
        arrival = Arrival(
            request.node_id,
            said,
            request.path.decode("latin-1"),
            request.query.decode("latin-1"),
            request.body,
            headers,
            peer,
        )
        unix_now = time.time()
        claimed = claimed_signature(headers)
        challenge = self._registrar.check_time(claimed.parameters, unix_now)
        node = self._registrar.node_of(arrival)
        if self._join_policy == "token" and self._registry.get_node(node.id) is None:
            self._check_join_token(said.join_token, unix_now)
        return _Own(arrival, node, claimed, challenge, unix_now)

    def _read_order(self, authorization: str, node_id: str, said: Registration) -> _Ordered:
        caller = self._access.caller(authorization)
        caller.need(Permission.OPERATE)
        node = node_from_plain(said.node)
        if node.id != node_id:
            raise ValidationError("node.id", node.id, "must be the id in the address")
        return _Ordered(caller.name, node, said.interval_seconds)

    def _prove(self, read: Union[_Own, _Ordered]) -> Union[_Own, _Ordered]:
        """The dear check."""
        if isinstance(read, _Own):
            self._registrar.check_signature(read.arrival, read.node, read.claimed, read.challenge, read.unix_now)
        return read

    def _keep(self, proven: Union[_Own, _Ordered]) -> TakenIn:
        """What follows, and what is kept of it: part of a commit."""
        if isinstance(proven, _Ordered):
            return self._keep_order(*proven)
        arrival, node = proven.arrival, proven.node
        known = self._registry.get_node(node.id)
        state = None if known is None else self._registry.host.state(node.id)
        decision = self._decided(arrival, node, known, state)
        if known is None or not decision.repeated:
            known = self._register(arrival, decision, known, None if state is None else state.get("peer"))
        generation, seconds = arrival.said.generation, self._settings.session_hours * 3600
        session = seal_session(SessionToken(node.id, generation, int(proven.unix_now + seconds)), self._identity.secret)
        return TakenIn(
            node.id,
            self._reply(known, generation, session, seconds),
            generation,
            arrival.headers.get("signature", ""),
            Refused("banned", known.admission_reason) if known.admission is Admission.BANNED else None,
        )

    def _keep_order(self, actor: str, node: Node, interval_seconds: float) -> TakenIn:
        found = self._registry.host.remains(node.id)
        state = (found[1] if found is not None else {}) or {"managed_by": "operator"}
        self._audit.note(actor, "registered" if found is None else "changed", node.id)
        kept = self._registry.host.register(node, interval_seconds=interval_seconds, state=state)
        return TakenIn(node.id, self._reply(kept))

    def _decided(
        self, arrival: Arrival, node: Node, known: Optional[Node], state: Optional[Mapping[str, Any]]
    ) -> Decision:
        if state is None or "links" not in state:  # removed before, and perhaps registered by an operator since
            gone = self._token_store.gone(node.id)
            if known is None and gone.generation is not None:
                if gone.ban:
                    raise Refused("banned", gone.ban)
                if arrival.said.generation <= gone.generation < LAST_GENERATION:
                    raise Refused(
                        "stale-generation", "the node was removed after a later one", current_generation=gone.generation
                    )
            if gone.links is not None:
                state = {**(state or {}), "links": gone.links, "key": gone.key}
        return self._registrar.decide(arrival, node, known, state, self.interval_seconds)

    def _register(self, arrival: Arrival, decision: Decision, known: Optional[Node], earlier: Optional[str]) -> Node:
        """The token, the log, the record. A crash between them is mended by the node's own repetition."""
        node_id = decision.node.id
        pending = self._reason_to_wait(arrival.peer) if known is None else ""
        if known is None:
            self._growth.take(arrival.peer)
            self._make_room()
            if self._join_policy == "token" and not self._token_store.join(
                arrival.said.join_token, node_id, time.time()
            ):
                raise Refused("join-token", "the join token is not known, used up, revoked or expired")
            self._audit.note(f"node {node_id}", "registered", node_id, pending=pending)
        kept = self._registry.host.register(
            decision.node,
            interval_seconds=arrival.said.interval_seconds,
            state=decision.host_state,
            pending_reason=pending,
        )
        if known is None:
            self._growth.came(node_id, arrival.peer)
        self._quotas.move(node_id, earlier, arrival.peer)
        if decision.contested and (known is None or known.cordon is None):
            self._audit.note("coordinator", "contested", node_id, reason=decision.contested)
            _log.warning("%s is cordoned: %s", node_id, decision.contested)
            self._registry.admin.cordon(node_id, reason=decision.contested, actor="coordinator")
        return kept

    def _make_room(self) -> None:
        """Where there are as many nodes as there may be, one that never worked goes, and leaves nothing behind."""
        newcomer = self._growth.make_room(self._quotas.arrived)
        if newcomer is None:
            return
        self._audit.note("coordinator", "removed", newcomer.node_id, reason="to make room: see nodes_at_most")
        self._registry.deregister_node(newcomer.node_id)
        self._quotas.move(newcomer.node_id, newcomer.peer, None)

    def _check_join_token(self, secret: str, unix_now: float) -> None:
        """Could this token let a new node in?"""
        if not secret:
            raise Refused("join-token", "this network lets nodes in by join token only, and none was given")
        token = self._token_store.find(secret)
        if token is None or token.role != "join" or token.revoked is not None:
            raise Refused("join-token", "what was given is no join token of this network, or a revoked one")
        if not token.is_valid(unix_now) and token.used == 0:
            raise Refused("join-token", "the join token has expired")

    def _reason_to_wait(self, peer: Optional[str]) -> str:
        if self._join_policy == "approval":
            return "approval"
        return "quota" if self._quotas.are_full(peer) else ""

    def _reply(self, node: Node, generation: int = 0, session: str = "", session_seconds: float = 0.0) -> bytes:
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
            )
        )


def _by_name(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """What is asked of the headers; one that came twice is refused, since a signature could cover either."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        text = _ASKED.get(name)
        if text is None:
            continue
        if text in headers:
            raise Refused("malformed", f"the header {text} came more than once")
        headers[text] = value.decode("latin-1")
    return headers
