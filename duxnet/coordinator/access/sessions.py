"""Which registration of each node is the current one, and which heartbeat was its last: in memory, from the records.

Here: judging a session token and a sequence number. Not here: sealing tokens (`registry_core.identity.tokens`).
A restart forgets sequences, not sessions: the first heartbeat after it is taken as it comes.
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
"""Heartbeats that a node may send at once; after that as many as `BEATS_PER_INTERVAL`."""
BEATS_PER_INTERVAL = 4.0
MOST_ATTEMPTS = 16
"""How often one registration may be sent again, each time signed anew, since its answer was lost."""


class Session:
    """The state of one node's present session."""

    __slots__ = ("allowance", "answer", "expires", "gap", "generation", "proofs", "refilled", "sequence", "token")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.sequence = -1
        self.answer = b""
        self.token = ""  # the one that was opened last, and its end: the next heartbeat has the same
        self.expires = 0
        self.gap: Optional[Gap] = None
        self.proofs: list[bytes] = []  # of the registrations that it was given for
        self.allowance = BURST
        self.refilled = float("-inf")

    def take(self, now: float, interval_seconds: float) -> float:
        """Use up one heartbeat of the allowance; 0 when there was one, else the seconds until there is."""
        rate = BEATS_PER_INTERVAL / interval_seconds
        self.allowance = min(BURST, self.allowance + (now - self.refilled) * rate)
        self.refilled = now
        if self.allowance < 1:
            return (1 - self.allowance) / rate
        self.allowance -= 1
        return 0.0


def same(known: str, given: str) -> bool:
    """Equal, told in a time that says nothing of where they differ."""
    return given.isascii() and hmac.compare_digest(known, given)


class Sessions:
    """Sessions by node id. `kept` gives the generation of a registered node, or None."""

    def __init__(self, secret: bytes, kept: Callable[[str], Optional[int]]) -> None:
        self._secret = secret
        self._kept = kept
        self._sessions: dict[str, Session] = {}

    def begin(self, node_id: str, generation: int, proof: str) -> None:
        """The node registered with this generation: whatever was said in an earlier session ends.

        `proof` is what its signature was made of. The node signs each attempt anew, so that the same one again comes
        from somebody who recorded it: raises Refused, and the session is not given away.
        """
        digest = hashlib.blake2b(proof.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._sessions.get(node_id)
        if known is None or known.generation != generation:
            known = self._sessions[node_id] = Session(generation)
        if digest in known.proofs or len(known.proofs) >= MOST_ATTEMPTS:
            raise Refused("stale-generation", "this registration was taken already", current_generation=generation)
        known.proofs.append(digest)

    def known(self, node_id: str) -> Optional[Session]:
        """The session of a node that was heard since the start, or None."""
        return self._sessions.get(node_id)

    def forget(self, node_id: str) -> None:
        """The node was removed."""
        self._sessions.pop(node_id, None)

    def of_token(self, token_text: str, node_id: str, unix_now: float) -> Session:
        """The session that the token belongs to. Raises Refused, UnknownNodeError."""
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
            raise Refused("not-allowed", "a node may speak for itself only")
        session = self._sessions.get(node_id)
        if session is None:
            session = self._restored(node_id)
        if token.generation != session.generation:
            raise Refused("session-expired", "the node has registered again since")
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
