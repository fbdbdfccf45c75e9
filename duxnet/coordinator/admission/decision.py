"""Checks a signed registration, the cheapest check first.

Here: time, signature, generation, which machine holds the identity. Not here: join tokens and quotas (`pipeline`),
HTTP, durability (`NodeRegistry`). The facts that later decisions need are stored with the node's record as its host
state, so that they are committed together.
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
"""Two agents with one key each take over once an interval, so a longer interval needs a longer window."""
MOST_TAKEOVERS = 3
_MOST_WATCHED = 10_000  # maximum number of identities whose take-overs are remembered


class RegistrationRequest(NamedTuple):
    """A received registration: path and query as they were signed, lower-case headers, the client's address."""

    node_id: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: Optional[str]

    def signed_for(self, coordinator_id: str) -> SignedRequest:
        """The parts of the request that the signature covers if it was made for this coordinator."""
        content_type = self.headers.get("content-type", "")
        return SignedRequest("PUT", self.path, self.query, content_type, coordinator_id, self.body)


class Decision(NamedTuple):
    """The result of the checks: the record to register, and the host state to store with it.

    `contested` is the reason if two agents seem to share the identity. `repeated`: nothing changed since the last time.
    """

    node: Node
    host_state: dict[str, Any]
    contested: str = ""
    repeated: bool = False


class Registrar:
    """Checks registrations. Its only state is the recent take-overs; everything else is passed in."""

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
        """The first and cheapest check: was it signed recently? Returns the challenge that it answers, or "".

        Raises SignatureRefused, and Refused with a new challenge if the time is wrong.
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

    def node_of(self, request: RegistrationRequest, registration: Registration) -> Node:
        """The record that the request describes. Raises ValidationError."""
        node = node_from_plain(registration.node)
        if node.id != request.node_id:
            raise ValidationError("node.id", node.id, "must be the id in the URL")
        if self._settings.public_network:
            refuse_unreachable(node)
        return node

    def check_signature(
        self,
        request: RegistrationRequest,
        registration: Registration,
        node: Node,
        claimed: ClaimedSignature,
        challenge: str,
        unix_now: float,
    ) -> None:
        """The most expensive check: did the node's key sign this? Raises SignatureRefused, ValidationError."""
        chain = (
            Succession(link.node_id, link.old_key, link.new_key, link.old_signature, link.new_signature)
            for link in registration.succession
        )
        key = current_key(node.id, registration.first_public_key or node.public_key, chain)
        if node.public_key != key:
            raise ValidationError("node.public_key", node.public_key, "must be the node's current key")
        signed = request.signed_for(self._identity.id)
        parameters = verify_request(signed, request.headers, now=unix_now, challenge=challenge or None, claimed=claimed)
        if parameters.keyid != key:
            raise SignatureRefused("bad-signature", "the request is not signed by the node's key")

    def decide(
        self,
        request: RegistrationRequest,
        registration: Registration,
        node: Node,
        known: Optional[Node],
        state: Optional[Mapping[str, Any]],
        requested_interval_seconds: float,
    ) -> Decision:
        """Decides on a node whose signature is valid. `known` and `state` are what is stored under its id.

        `requested_interval_seconds` is the interval that nodes are requested to report at.

        Raises Refused for a banned node, an old generation, and a copy of a live node.
        """
        digest = hashlib.sha256(request.body).hexdigest()
        kept: Mapping[str, Any] = state or {}
        fresh = {
            "generation": registration.generation,
            "digest": digest,
            "machine_hint": registration.machine_hint,
            "boot_id": registration.boot_id,
            "peer": request.peer or "",
            "links": len(registration.succession),
            "key": node.public_key,
        }
        if known is not None and known.admission is Admission.BANNED:
            raise Refused("banned", known.admission_reason)
        self._check_successor(registration, kept)
        generation = kept.get("generation")
        if isinstance(generation, int) and generation < LAST_GENERATION:  # after the last one a node starts again
            if registration.generation == generation and kept.get("digest") == digest:
                return Decision(node, dict(kept), repeated=known is not None)
            if registration.generation <= generation:
                raise Refused(
                    "stale-generation",
                    f"generation {registration.generation} is not above {generation}",
                    current_generation=generation,
                )
        contested = ""
        if known is not None:
            self._check_holder(registration, known, kept)
            interval = max(registration.interval_seconds, requested_interval_seconds)
            contested = self._took_over(
                node.id, registration, kept, max(TAKEOVER_WINDOW_SECONDS, TAKEOVER_WINDOW_INTERVALS * interval)
            )
        return Decision(node, fresh, contested=contested)

    def _check_successor(self, registration: Registration, kept: Mapping[str, Any]) -> None:
        """Raise Refused for a replaced key: the chain of keys must continue from the newest key that registered.

        A shorter chain is an old key; one that branches off is an old key that signed another successor.
        """
        links, key = kept.get("links", 0), kept.get("key", "")
        if not isinstance(links, int) or links < 1:
            return
        if len(registration.succession) < links or key not in ("", registration.succession[links - 1].new_key):
            raise Refused(
                "bad-signature",
                "the node's key was replaced, and only the newer one is valid: "
                "restore node.key from a copy that was made after duxnet key rotate",
            )

    def _check_holder(self, registration: Registration, known: Node, kept: Mapping[str, Any]) -> None:
        """Raise Refused if another machine holds the identity and is live. Once it is down, the identity may move."""
        holder = kept.get("machine_hint", "")
        if holder and registration.machine_hint != holder and known.liveness is Liveness.LIVE:
            raise Refused("duplicate-identity", "another machine with this identity is live")

    def _took_over(
        self, node_id: str, registration: Registration, kept: Mapping[str, Any], window_seconds: float
    ) -> str:
        """Record a take-over by another boot or agent start. Returns the reason if two of them take turns, else ""."""
        before = kept.get("boot_id", "")
        if not registration.boot_id or not before or registration.boot_id == before:
            return ""
        now = self._monotonic()
        turns = self._takeovers.pop(node_id, None) or deque(maxlen=MOST_TAKEOVERS + 1)
        if not turns or turns[-1][1] != registration.boot_id:  # else it is a retry after a failed commit
            turns.append((now, registration.boot_id))
        self._takeovers[node_id] = turns  # the most recent last
        while len(self._takeovers) > _MOST_WATCHED:
            del self._takeovers[next(iter(self._takeovers))]
        if len(turns) <= MOST_TAKEOVERS or now - turns[0][0] > window_seconds:
            return ""
        boots = {boot for _, boot in turns}
        if len(boots) > 2:
            return ""
        return "two agents take turns with this identity: stop the copy, and remove its state directory"
