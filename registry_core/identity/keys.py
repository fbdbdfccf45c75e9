"""Ed25519 keys as objects and as files: loading them, and their text forms. `signatures` signs with them."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from registry_core.errors import DamagedStoreError, StoreError, reason_of
from registry_core.files.opening import Folder

_MAX_KEY_FILE_BYTES = 16 * 1024  # a node's key is followed by the records of its replacements


def raw_public_key(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_key_text(key: Ed25519PublicKey) -> str:
    """The 32 bytes in standard base64, as in records."""
    return base64.b64encode(raw_public_key(key)).decode("ascii")


def private_key_pem(key: Ed25519PrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 in PEM, which `openssl pkey` reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM file that only its owner may read. Raises StoreError, DamagedStoreError."""
    return private_key_in(path, read_key_file(path))


def read_key_file(path: Path) -> bytes:
    """The content of a file of secrets that only its owner may read. Raises StoreError."""
    try:
        with Folder(path.parent) as folder, os.fdopen(folder.open(path.name, os.O_RDONLY), "rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(_MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from error
    if mode & 0o077:
        raise StoreError(str(path), f"is accessible to other users (mode {mode:04o}); run chmod 600 on it")
    return content


def private_key_in(path: Path, content: bytes) -> Ed25519PrivateKey:
    """The Ed25519 key in the first PEM block of `content`, read from `path`. Raises DamagedStoreError."""
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise DamagedStoreError(
            str(path), "does not hold a private key in PEM; restore it from a backup: a new key is a new node"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise DamagedStoreError(str(path), "holds a key that is not an Ed25519 key")
    return key
