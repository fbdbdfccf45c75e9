"""Session tokens and challenges, which the coordinator verifies without storing them, and the hashes of stored secrets.

What a token permits is decided in `duxnet.coordinator`. Times are Unix seconds. A session token contains its node, the
generation of its registration and its expiry; it is signed with an HMAC, so that it survives a restart of the
coordinator, which stores only the secret key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Optional

from registry_core.errors import ValidationError

__all__ = [
    "SessionToken",
    "challenge_nonce",
    "checked_token",
    "hashed_secret",
    "new_secret",
    "open_session",
    "seal_session",
    "valid_nonce",
]

_SEAL_BYTES = 16  # 128 bits cannot be guessed online
LONGEST_TOKEN = 256
_MASK = "********"
_SESSION = b"duxnet-session-v1\x00"
_CHALLENGE = b"duxnet-challenge-v1\x00"


@dataclass(frozen=True)
class SessionToken:
    """Identifies the registration that a heartbeat belongs to. `expires` is Unix seconds."""

    node_id: str
    generation: int
    expires: int


def checked_token(field: str, text: str) -> str:
    """A bearer token from a person, without surrounding white space; "" means none.

    Raises ValidationError, which never shows the token. It must be one printable word, since it is sent in a header.
    """
    token = text.strip()
    if len(token) > LONGEST_TOKEN:
        raise ValidationError(field, _MASK, f"must be at most {LONGEST_TOKEN} characters, not {len(token)}")
    for place, character in enumerate(token, 1):
        if not "!" <= character <= "~":
            raise ValidationError(
                field, _MASK, f"must be one word of printable ASCII: its character {place} is U+{ord(character):04X}"
            )
    return token


def seal_session(token: SessionToken, secret: bytes) -> str:
    """The token as text: `NODE_ID~GENERATION~EXPIRES~SEAL`."""
    payload = f"{token.node_id}~{token.generation}~{token.expires}"
    return f"{payload}~{_seal(_SESSION, payload, secret)}"


def open_session(text: str, secret: bytes) -> Optional[SessionToken]:
    """The token, or None when the seal is not ours. The caller checks its expiry and generation."""
    payload, _, seal = text.rpartition("~")
    try:
        if not hmac.compare_digest(seal, _seal(_SESSION, payload, secret)):
            return None
    except (TypeError, UnicodeEncodeError):  # not ASCII
        return None
    node_id, generation, expires = payload.split("~")
    return SessionToken(node_id, int(generation), int(expires))


def challenge_nonce(key_text: str, now: int, secret: bytes) -> str:
    """A nonce that is valid only for this key, and that the coordinator recognises without storing it."""
    return f"{now}~{_seal(_CHALLENGE, f'{now}~{key_text}', secret)}"


def valid_nonce(nonce: str, key_text: str, now: float, secret: bytes, *, seconds: int = 60) -> bool:
    """Whether this coordinator issued the nonce for this key within the last `seconds`."""
    made, _, seal = nonce.partition("~")
    if not (made.isascii() and made.isdigit() and len(made) <= 12 and seal.isascii()):
        return False
    if not 0 <= now - int(made) <= seconds:
        return False
    return hmac.compare_digest(seal, _seal(_CHALLENGE, f"{made}~{key_text}", secret))


def new_secret(prefix: str) -> str:
    """A bearer secret of 256 random bits; the prefix shows its purpose, should it appear in a log."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def hashed_secret(secret: str) -> str:
    """The stored form of a bearer secret: its SHA-256, which is enough for 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _seal(domain: bytes, payload: str, secret: bytes) -> str:
    digest = hmac.digest(secret, domain + payload.encode("utf-8"), "sha256")[:_SEAL_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
