"""A node's key in `node.key`: the secret key and, if it replaced another, the chain of replacements.

The file is PEM: the secret key in PKCS#8, then the chain, if there is one, in its own block, which other programs
skip. So this file alone is the whole identity: `node.id` can be made from it at any time, and no crash or backup can
separate the key from the proof that it belongs to the node.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.errors import DamagedStoreError, ValidationError
from registry_core.identity.identity_files import ID_FILE, KEY_FILE, check_key_file, id_checksum, parse_id_file
from registry_core.identity.keys import private_key_in, private_key_pem, public_key_text, read_key_file
from registry_core.identity.succession import Succession, current_key, succeed
from registry_core.models.ids import key_from_text, node_id_of_key

__all__ = ["NodeKey", "load_key_file", "load_node_key"]

_BEGIN = b"-----BEGIN DUXNET KEY SUCCESSION-----\n"
_END = b"-----END DUXNET KEY SUCCESSION-----"
_LINE = 64  # characters of base64 per line, as in PEM


@dataclass(frozen=True)
class NodeKey:
    """A node's present key, and the chain, oldest first, that leads to it from the first key."""

    private: Ed25519PrivateKey
    succession: tuple[Succession, ...] = ()

    @property
    def public_key(self) -> str:
        """The present public key: 32 raw bytes in base64."""
        return public_key_text(self.private.public_key())

    @property
    def first_public_key(self) -> str:
        """The key from which the node's id is derived, in base64."""
        return self.succession[0].old_key if self.succession else self.public_key

    @property
    def node_id(self) -> str:
        """The node's id, which no replacement changes."""
        return node_id_of_key(key_from_text("first_public_key", self.first_public_key))

    def replaced_by(self, new: Ed25519PrivateKey) -> NodeKey:
        """The same node with another key."""
        return NodeKey(new, (*self.succession, succeed(self.node_id, self.private, new)))

    def key_file(self) -> bytes:
        """The content of `node.key`."""
        pem = private_key_pem(self.private)
        if not self.succession:
            return pem
        text = base64.b64encode(json.dumps([asdict(link) for link in self.succession]).encode("ascii"))
        lines = [text[start : start + _LINE] + b"\n" for start in range(0, len(text), _LINE)]
        return b"".join((pem, _BEGIN, *lines, _END, b"\n"))

    def id_file(self) -> bytes:
        """The content of `node.id`."""
        content: dict[str, object] = {"id": self.node_id, "public_key": self.public_key}
        if self.succession:
            content["first_public_key"] = self.first_public_key
            content["checksum"] = id_checksum(content)
        return json.dumps(content, indent=2).encode("ascii") + b"\n"


def load_node_key(folder: Path) -> NodeKey:
    """The key in a state directory; `node.id`, if it exists, must match it. The caller holds `locked_folder`.

    Raises StoreError, DamagedStoreError.
    """
    check_key_file(folder)
    key = load_key_file(folder / KEY_FILE)
    if not os.path.lexists(folder / ID_FILE):
        return key
    identity = parse_id_file(folder)
    if (identity.id, identity.public_key) != (key.node_id, key.public_key):
        raise DamagedStoreError(
            str(folder / KEY_FILE),
            f"does not match {ID_FILE}; restore both from one backup, or, if this is the node's newest key, remove "
            f"{ID_FILE}: the next start makes it again",
        )
    return key


def load_key_file(path: Path) -> NodeKey:
    """The key in a file, its chain checked link by link. Raises StoreError, DamagedStoreError."""
    content = read_key_file(path)
    pem, _, chain = content.partition(_BEGIN)
    key = NodeKey(private_key_in(path, pem), _chain_in(path, chain))
    try:
        if current_key(key.node_id, key.first_public_key, key.succession) == key.public_key:
            return key
        reason = "the last one is for another key"
    except ValidationError as error:
        reason = str(error)
    raise _damaged(path, reason)


def _chain_in(path: Path, block: bytes) -> tuple[Succession, ...]:
    if not block:
        return ()
    text, end, _ = block.partition(_END)
    try:
        if not end:
            raise ValueError("cut off")
        links = json.loads(base64.b64decode(text))
        if not all(isinstance(value, str) for link in links for value in link.values()):
            raise ValueError("not text")
        return tuple(Succession(**link) for link in links)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, "they cannot be read") from None


def _damaged(path: Path, reason: str) -> DamagedStoreError:
    return DamagedStoreError(
        str(path),
        f"its records of replaced keys are invalid: {reason}; restore it from a backup: a new key is a new node",
    )
