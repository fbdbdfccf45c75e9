"""The coordinator's identity: its id from its Ed25519 key, and its seal on what it answers to a signed request.

A node signs for this id (the audience) and pins it; the seal shows that the one who answered holds the key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry_core.errors import ValidationError
from registry_core.models.ids import key_from_text

__all__ = ["SEAL_HEADER", "coordinator_id_of_key", "is_sealed", "seal_answer"]

SEAL_HEADER = "duxnet-signature"
_ID_DOMAIN = b"duxnet-coordinator-id-v1\x00"
_ANSWER_DOMAIN = b"duxnet-answer-v1\x00"


def coordinator_id_of_key(public_key: bytes) -> str:
    """`c1` + base32(SHA-256(domain ‖ key)), lower case: 54 characters, like a node's id."""
    digest = hashlib.sha256(_ID_DOMAIN + public_key).digest()
    return "c1" + base64.b32encode(digest).decode("ascii").rstrip("=").lower()


def seal_answer(request_signature: str, body: bytes, key: Ed25519PrivateKey) -> str:
    """The value of SEAL_HEADER: this body answers the request with this signature, and nobody else's."""
    return base64.b64encode(key.sign(_sealed(request_signature, body))).decode("ascii")


def is_sealed(seal: str, request_signature: str, body: bytes, public_key: str) -> bool:
    """Does the seal hold for the coordinator's key (base64)?"""
    try:
        key = Ed25519PublicKey.from_public_bytes(key_from_text("public_key", public_key))
        key.verify(base64.b64decode(seal, validate=True), _sealed(request_signature, body))
    except (InvalidSignature, ValidationError, binascii.Error, ValueError):
        return False
    return True


def _sealed(request_signature: str, body: bytes) -> bytes:
    return _ANSWER_DOMAIN + hashlib.sha256(request_signature.encode("utf-8")).digest() + hashlib.sha256(body).digest()
