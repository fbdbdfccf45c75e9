"""Holds the current session and the last heartbeat of each node in memory, and restores sessions from the records.

Here: checking a session token and a sequence number. Not here: sealing tokens (`registry_core.identity.tokens`).
A restart loses sequence numbers, not sessions: the first heartbeat after it is accepted with any number.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Callable, Optional

from duxnet.coordinator.errors import Refused
from registry_core.errors import UnknownNodeError
from registry_core.identity.tokens import open_session
from registry_core.wire.shapes import Gap

__all__ = ["Session", "Sessions"]

BURST = 4.0
"""Heartbeats that a node may send at once; after that `BEATS_PER_INTERVAL` applies."""
BEATS_PER_INTERVAL = 4.0
MOST_ATTEMPTS = 16
"""How often one registration may be sent again, each time with a new signature, after a lost answer."""


class Session:
    """The state of one node's current session."""

    __slots__ = ("allowance", "answer", "expires", "gap", "generation", "proofs", "refilled", "sequence", "token")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.sequence = -1
        self.answer = b""
        self.token = ""  # the last verified token and its expiry: the next heartbeat usually has it too
        self.expires = 0
        self.gap: Optional[Gap] = None
        self.proofs: list[bytes] = []  # hashes of the proofs of the registrations that began it
        self.allowance = BURST
        self.refilled = float("-inf")

    def take(self, now: float, interval_seconds: float) -> float:
        """Use one heartbeat of the allowance. Returns 0, or the seconds until the next one is allowed."""
        rate = BEATS_PER_INTERVAL / interval_seconds
        self.allowance = min(BURST, self.allowance + (now - self.refilled) * rate)
        self.refilled = now
        if self.allowance < 1:
            return (1 - self.allowance) / rate
        self.allowance -= 1
        return 0.0


def same(known: str, given: str) -> bool:
    """Are the two texts equal? Compares in constant time."""
    return given.isascii() and hmac.compare_digest(known, given)


class Sessions:
    """Sessions by node id. `kept` returns the generation of a registered node, or None."""

    def __init__(self, secret: bytes, kept: Callable[[str], Optional[int]]) -> None:
        self._secret = secret
        self._kept = kept
        self._sessions: dict[str, Session] = {}

    def begin(self, node_id: str, generation: int, proof: str) -> None:
        """Start the session of a registration with this generation, which ends an earlier session.

        `proof` is the input of its signature. The node makes a new signature for each attempt, so a repeated
        proof comes from an attacker that recorded it. Raises Refused then, so that the attacker gets no session.
        """
        digest = hashlib.blake2b(proof.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._sessions.get(node_id)
        if known is None or known.generation != generation:
            known = self._sessions[node_id] = Session(generation)
        if digest in known.proofs or len(known.proofs) >= MOST_ATTEMPTS:
            raise Refused("stale-generation", "this registration was already accepted", current_generation=generation)
        known.proofs.append(digest)

    def known(self, node_id: str) -> Optional[Session]:
        """The session of a node that has reported since the start, or None."""
        return self._sessions.get(node_id)

    def forget(self, node_id: str) -> None:
        """End the session of a removed node."""
        self._sessions.pop(node_id, None)

    def of_token(self, token_text: str, node_id: str, unix_now: float) -> Session:
        """Returns the session of a token. Raises Refused, UnknownNodeError."""
        session = self._sessions.get(node_id)
        if session is not None and session.token and same(session.token, token_text):
            if session.expires <= unix_now:
                raise Refused("session-expired", "the session's time is over")
            return session
        return self._opened(token_text, node_id, unix_now)

    def _opened(self, token_text: str, node_id: str, unix_now: float) -> Session:
        token = open_session(token_text, self._secret)
        if token is None:
            raise Refused("session-expired", "the token is not one of this coordinator's sessions")
        if token.node_id != node_id:
            raise Refused("not-allowed", "a session token is valid for its own node only")
        session = self._sessions.get(node_id)
        if session is None:
            session = self._restored(node_id)
        if token.generation != session.generation:
            raise Refused("session-expired", "the node has registered again")
        if token.expires <= unix_now:
            raise Refused("session-expired", "the session's time is over")
        session.token, session.expires = token_text, token.expires
        return session

    def _restored(self, node_id: str) -> Session:
        generation = self._kept(node_id)
        if generation is None:
            raise UnknownNodeError(node_id)
        session = self._sessions[node_id] = Session(generation)
        return session
