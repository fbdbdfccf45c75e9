"""How a node gets in: a signed registration, checked in the order of what a check costs.

Here: time, join policy, quota, signature, generation, who holds the identity. Not here: HTTP, durability
(`NodeRegistry`), tokens' rows (`token_store`). What is decided here travels with the record as its host state, so that
it is committed with the registration.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from duxnet.coordinator.access.own_identity import CoordinatorIdentity
from duxnet.coordinator.admission.networks import refuse_unreachable
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.errors import ValidationError
from registry_core.identity.signatures import (
    ClaimedSignature,
    SignatureParameters,
    SignatureRefused,
    SignedRequest,
    verify_request,
)
from registry_core.identity.succession import Succession, current_key
from registry_core.identity.tokens import challenge_nonce, valid_nonce
from registry_core.models.encoding import node_from_plain
from registry_core.models.node import Node
from registry_core.models.status import Admission, Liveness
from registry_core.wire.shapes import LAST_GENERATION, Registration

__all__ = ["Decision", "Registrar", "RegistrationRequest"]

TAKEOVER_WINDOW_SECONDS = 600.0
TAKEOVER_WINDOW_INTERVALS = 4
"""Two agents with one key take over once an interval each: what reports seldom is watched for longer."""
MOST_TAKEOVERS = 3
_MOST_WATCHED = 10_000  # identities whose take-overs are remembered at once


class RegistrationRequest(NamedTuple):
    """A registration as it came in: path and query as they were signed, lower-case headers, where it came from."""

    node_id: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: Optional[str]

    def signed_for(self, coordinator_id: str) -> SignedRequest:
        """What the node's signature covers, where it is meant for this coordinator."""
        content_type = self.headers.get("content-type", "")
        return SignedRequest("PUT", self.path, self.query, content_type, coordinator_id, self.body)


class Decision(NamedTuple):
    """What follows: the record to register, and what to keep beside it.

    `contested` names why two agents seem to share the identity. `repeated`: nothing changed since the last time.
    """

    node: Node
    host_state: dict[str, Any]
    contested: str = ""
    repeated: bool = False


class Registrar:
    """Judges registrations. Holds only what it needs against clones; everything else is passed in."""

    def __init__(
        self,
        identity: CoordinatorIdentity,
        settings: CoordinatorSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._monotonic = monotonic
        self._takeovers: dict[str, deque[tuple[float, str]]] = {}

    def check_time(self, parameters: SignatureParameters, unix_now: float) -> str:
        """The first and cheapest look: is it signed recently? Returns the challenge that it answers, or "".

        Raises SignatureRefused, and Refused with a fresh challenge where the time is wrong.
        """
        secret = self._identity.secret
        if valid_nonce(parameters.nonce, parameters.keyid, unix_now, secret):
            return parameters.nonce
        try:
            parameters.check_time(unix_now)
        except SignatureRefused as error:
            if error.code != "signature-time":
                raise
            challenge = challenge_nonce(parameters.keyid, int(unix_now), secret)
            raise Refused("signature-time", error.reason, challenge=challenge) from None
        return ""

    def node_of(self, request: RegistrationRequest, said: Registration) -> Node:
        """The record that the request describes. Raises ValidationError."""
        node = node_from_plain(said.node)
        if node.id != request.node_id:
            raise ValidationError("node.id", node.id, "must be the id in the address")
        if self._settings.public_network:
            refuse_unreachable(node)
        return node

    def check_signature(
        self,
        request: RegistrationRequest,
        said: Registration,
        node: Node,
        claimed: ClaimedSignature,
        challenge: str,
        unix_now: float,
    ) -> None:
        """The most expensive check: does the node's key say this? Raises SignatureRefused, ValidationError."""
        chain = (
            Succession(link.node_id, link.old_key, link.new_key, link.old_signature, link.new_signature)
            for link in said.succession
        )
        key = current_key(node.id, said.first_public_key or node.public_key, chain)
        if node.public_key != key:
            raise ValidationError("node.public_key", node.public_key, "must be the node's present key")
        signed = request.signed_for(self._identity.id)
        parameters = verify_request(signed, request.headers, now=unix_now, challenge=challenge or None, claimed=claimed)
        if parameters.keyid != key:
            raise SignatureRefused("bad-signature", "the request is signed by another key than the node's")

    def decide(
        self,
        request: RegistrationRequest,
        said: Registration,
        node: Node,
        known: Optional[Node],
        state: Optional[Mapping[str, Any]],
        asked_interval_seconds: float,
    ) -> Decision:
        """What follows for a node that has proven itself. `known` and `state` are what is kept under its id.

        `asked_interval_seconds` is how often nodes are asked to report.

        Raises Refused for a banned node, an outdated generation, and a copy of a node that is alive.
        """
        digest = hashlib.sha256(request.body).hexdigest()
        kept: Mapping[str, Any] = state or {}
        fresh = {
            "generation": said.generation,
            "digest": digest,
            "machine_hint": said.machine_hint,
            "boot_id": said.boot_id,
            "peer": request.peer or "",
            "links": len(said.succession),
            "key": node.public_key,
        }
        if known is not None and known.admission is Admission.BANNED:
            raise Refused("banned", known.admission_reason)
        self._check_successor(said, kept)
        generation = kept.get("generation")
        if isinstance(generation, int) and generation < LAST_GENERATION:  # after the last one a node begins anew
            if said.generation == generation and kept.get("digest") == digest:
                return Decision(node, dict(kept), repeated=known is not None)
            if said.generation <= generation:
                raise Refused(
                    "stale-generation",
                    f"generation {said.generation} is not above {generation}",
                    current_generation=generation,
                )
        contested = ""
        if known is not None:
            self._check_holder(said, known, kept)
            interval = max(said.interval_seconds, asked_interval_seconds)
            contested = self._took_over(
                node.id, said, kept, max(TAKEOVER_WINDOW_SECONDS, TAKEOVER_WINDOW_INTERVALS * interval)
            )
        return Decision(node, fresh, contested=contested)

    def _check_successor(self, said: Registration, kept: Mapping[str, Any]) -> None:
        """A key that was replaced stays replaced: what is said must go on from the key that spoke last.

        A shorter chain is an old key; one that branches off is an old key that signed another successor.
        """
        links, key = kept.get("links", 0), kept.get("key", "")
        if not isinstance(links, int) or links < 1:
            return
        if len(said.succession) < links or key not in ("", said.succession[links - 1].new_key):
            raise Refused(
                "bad-signature",
                "the node's key was replaced since, and only the newer one speaks for it: "
                "restore node.key from a copy that was made after duxnet key rotate",
            )

    def _check_holder(self, said: Registration, known: Node, kept: Mapping[str, Any]) -> None:
        """While the holder is live, another machine does not get the identity; after it is down, it moves."""
        holder = kept.get("machine_hint", "")
        if holder and said.machine_hint != holder and known.liveness is Liveness.LIVE:
            raise Refused("duplicate-identity", "another machine holds this identity and is live")

    def _took_over(self, node_id: str, said: Registration, kept: Mapping[str, Any], window_seconds: float) -> str:
        """Note a take-over by another boot, or start of the agent, here; says so when two of them take turns."""
        before = kept.get("boot_id", "")
        if not said.boot_id or not before or said.boot_id == before:
            return ""
        now = self._monotonic()
        turns = self._takeovers.pop(node_id, None) or deque(maxlen=MOST_TAKEOVERS + 1)
        if not turns or turns[-1][1] != said.boot_id:  # else it comes again, since the disk did not take it
            turns.append((now, said.boot_id))
        self._takeovers[node_id] = turns  # the newest last
        while len(self._takeovers) > _MOST_WATCHED:
            del self._takeovers[next(iter(self._takeovers))]
        if len(turns) <= MOST_TAKEOVERS or now - turns[0][0] > window_seconds:
            return ""
        boots = {boot for _, boot in turns}
        if len(boots) > 2:
            return ""
        return "two agents take turns with this identity: stop the copy, and remove its state directory"
