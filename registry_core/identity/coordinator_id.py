"""The coordinator's identity: its id from its Ed25519 key, and its seal on what it answers to signed requests.

A node signs for this id (the audience) and pins it; the seal shows that the one who answered holds the key. Answers
that are ready at the same time share one signature: it is made over the root of their Merkle tree (RFC 9162 §2.1), and
each carries the hashes that lead from it to the root. An answer by itself is a tree of one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry_core.errors import ValidationError
from registry_core.models.ids import key_from_text

__all__ = ["SEAL_HEADER", "coordinator_id_of_key", "is_sealed", "seal_answers"]

SEAL_HEADER = "duxnet-signature"
MOST_STEPS = 16
"""From an answer to the root; a seal with more is refused unread. The 64 answers of a commit take six."""
_ID_DOMAIN = b"duxnet-coordinator-id-v1\x00"
_ROOT_DOMAIN = b"duxnet-answers-v2\x00"
_LEAF, _INNER = b"\x00", b"\x01"
_LEFT, _RIGHT = "<", ">"


def coordinator_id_of_key(public_key: bytes) -> str:
    """`c1` + base32(SHA-256(domain ‖ key)), lower case: 54 characters, like a node's id."""
    digest = hashlib.sha256(_ID_DOMAIN + public_key).digest()
    return "c1" + base64.b32encode(digest).decode("ascii").rstrip("=").lower()


def seal_answers(answers: Sequence[tuple[str, bytes]], key: Ed25519PrivateKey) -> list[str]:
    """The value of SEAL_HEADER for each (signature of the request, body of the answer).

    A seal is the signature of the root in base64 and, for each step to the root, where the other hash stands (`<` left,
    `>` right) and that hash in base64. It says that this body answers the request with this signature, and no other.
    """
    levels = [[_leaf(signature, body) for signature, body in answers]]
    while len(levels[-1]) > 1:
        level = levels[-1]
        pairs = zip_longest(level[::2], level[1::2])
        levels.append([left if right is None else _inner(left, right) for left, right in pairs])
    (root,) = levels.pop()
    paths = [""]  # from each hash of a level to the root
    for level in reversed(levels):
        texts = [base64.b64encode(each).decode("ascii") for each in level]
        paths = [_step(texts, place) + paths[place // 2] for place in range(len(level))]
    signature = base64.b64encode(key.sign(_ROOT_DOMAIN + root)).decode("ascii")
    return [signature + path for path in paths]


def is_sealed(seal: str, request_signature: str, body: bytes, public_key: str) -> bool:
    """Does the seal hold for the coordinator's key (base64)?"""
    signature, *steps = seal.replace(_LEFT, " " + _LEFT).replace(_RIGHT, " " + _RIGHT).split(" ")
    if len(steps) > MOST_STEPS:
        return False
    try:
        found = _leaf(request_signature, body)
        for step in steps:
            other = base64.b64decode(step[1:], validate=True)
            if len(other) != len(found):
                return False
            found = _inner(other, found) if step[0] == _LEFT else _inner(found, other)
        key = Ed25519PublicKey.from_public_bytes(key_from_text("public_key", public_key))
        key.verify(base64.b64decode(signature, validate=True), _ROOT_DOMAIN + found)
    except (InvalidSignature, ValidationError, binascii.Error, ValueError):
        return False
    return True


def _step(texts: Sequence[str], place: int) -> str:
    if place % 2:
        return _LEFT + texts[place - 1]
    return _RIGHT + texts[place + 1] if place + 1 < len(texts) else ""  # alone at the end: it goes up as it is


def _leaf(request_signature: str, body: bytes) -> bytes:
    request = hashlib.sha256(request_signature.encode("utf-8")).digest()
    return hashlib.sha256(_LEAF + request + hashlib.sha256(body).digest()).digest()


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_INNER + left + right).digest()
