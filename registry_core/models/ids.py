"""Node ids: derived from the node's first public key, or random for a record without a key.

A derived id is `n1` + base32(SHA-256(domain ‖ raw Ed25519 public key)), lower case, no padding: 54 characters. The
domain string ensures that the hash is of no use in another protocol.
"""

from __future__ import annotations

from registry_core.errors import ValidationError

_DOMAIN = b"duxnet-node-id-v1\x00"
_KEY_RULE = "must be a raw Ed25519 public key of 32 bytes in standard base64 (44 characters)"


def random_node_id() -> str:
    """A fresh UUID4 as text."""
    import uuid  # here, since it would cost the probe's start 9 ms

    return str(uuid.uuid4())


def key_from_text(field: str, value: object) -> bytes:
    """The 32 raw bytes of a public key in canonical base64. Raises ValidationError."""
    import base64

    if not isinstance(value, str) or len(value) != 44:
        raise ValidationError(field, value, _KEY_RULE)
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        raise ValidationError(field, value, _KEY_RULE) from None
    if len(raw) != 32 or base64.b64encode(raw).decode("ascii") != value:  # the last character has spare bits
        raise ValidationError(field, value, _KEY_RULE)
    return raw


def node_id_of_key(public_key: bytes) -> str:
    """The id of the node whose first Ed25519 public key (32 raw bytes) this is."""
    import base64
    import hashlib

    digest = hashlib.sha256(_DOMAIN + public_key).digest()
    return "n1" + base64.b32encode(digest).decode("ascii").rstrip("=").lower()
