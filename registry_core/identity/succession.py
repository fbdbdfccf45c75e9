"""Records of key changes: the old and the new key sign each record. The node's id stays that of its first key.

This module makes and checks records and chains of records. `node_key` stores them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry_core.errors import ValidationError
from registry_core.identity.keys import public_key_text
from registry_core.models.ids import key_from_text, node_id_of_key

__all__ = ["MOST_LINKS", "Succession", "current_key", "succeed"]

_DOMAIN = b"duxnet-key-succession-v1\x00"

MOST_LINKS = 16
"""The maximum number of replacements of a node's key: a coordinator checks the whole chain at each registration."""


@dataclass(frozen=True)
class Succession:
    """`new_key` replaces `old_key` for the node `node_id`. Keys and signatures are in standard base64."""

    node_id: str
    old_key: str
    new_key: str
    old_signature: str
    new_signature: str


def succeed(node_id: str, old: Ed25519PrivateKey, new: Ed25519PrivateKey) -> Succession:
    """The record that replaces `old` by `new`."""
    old_text, new_text = public_key_text(old.public_key()), public_key_text(new.public_key())
    signed = _signed_bytes(node_id, old_text, new_text)
    signatures = (base64.b64encode(key.sign(signed)).decode("ascii") for key in (old, new))
    return Succession(node_id, old_text, new_text, *signatures)


def current_key(node_id: str, first_key: str, chain: Iterable[Succession]) -> str:
    """The node's key after every record of `chain`, oldest first. Raises ValidationError."""
    if node_id_of_key(key_from_text("public_key", first_key)) != node_id:
        raise ValidationError("id", node_id, "must be derived from the node's first public key")
    links = tuple(chain)
    if len(links) > MOST_LINKS:
        raise ValidationError("succession", len(links), f"must hold at most {MOST_LINKS} records")
    key = first_key
    for index, link in enumerate(links):
        field = f"succession[{index}]"
        if link.node_id != node_id or link.old_key != key:
            raise ValidationError(field, link.old_key, "must replace the previous key of the same node")
        _check(field, link)
        key = link.new_key
    return key


def _check(field: str, link: Succession) -> None:
    keys = [key_from_text(field, text) for text in (link.old_key, link.new_key)]
    signed = _signed_bytes(link.node_id, link.old_key, link.new_key)
    for key, signature in zip(keys, (link.old_signature, link.new_signature)):
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(signature, validate=True), signed)
        except (InvalidSignature, binascii.Error, ValueError):
            raise ValidationError(field, signature, "must be signed by the old key and the new key") from None


def _signed_bytes(node_id: str, old_key: str, new_key: str) -> bytes:
    return _DOMAIN + "\x00".join((node_id, old_key, new_key)).encode("ascii")
