"""The coordinator's identity: its id from its Ed25519 key.

A node signs for this id (the audience) and pins it; `answer_signature` proves that the server holds the key.
"""

from __future__ import annotations

import base64
import hashlib

__all__ = ["coordinator_id_of_key"]

_ID_DOMAIN = b"duxnet-coordinator-id-v1\x00"


def coordinator_id_of_key(public_key: bytes) -> str:
    """`c1` + base32(SHA-256(domain ‖ key)), lower case: 54 characters, like a node's id."""
    digest = hashlib.sha256(_ID_DOMAIN + public_key).digest()
    return "c1" + base64.b32encode(digest).decode("ascii").rstrip("=").lower()
