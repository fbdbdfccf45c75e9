"""The coordinator's own key and first operator token, created at the first start with mode 0600.

A lost key is an error: it is not silently replaced.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from duxnet.coordinator.access.token_store import COORDINATOR_DB, TokenStore
from registry_core.errors import DamagedStoreError, StoreError, reason_of
from registry_core.files.atomic import replace_file
from registry_core.files.locks import locked_folder
from registry_core.files.opening import own_folder, read_file
from registry_core.identity.coordinator_id import coordinator_id_of_key
from registry_core.identity.keys import load_private_key, private_key_pem, public_key_text, raw_public_key

__all__ = [
    "CoordinatorIdentity",
    "ensure_coordinator_identity",
    "ensure_operator_token",
    "read_coordinator_id",
    "read_coordinator_identity",
]

KEY_FILE = "coordinator.key"
ID_FILE = "coordinator.id"
OPERATOR_TOKEN_FILE = "operator.token"  # noqa: S105 - a file's name
_SECRET_DOMAIN = b"duxnet-session-secret-v1\x00"
_SUM_DOMAIN = b"duxnet-state-sum-v1\x00"


@dataclass(frozen=True)
class CoordinatorIdentity:
    """The private key and all values derived from it: the id, the secret of session tokens, the key of state sums."""

    id: str
    public_key: str
    key: Ed25519PrivateKey
    secret: bytes
    sum_key: bytes

    def __repr__(self) -> str:
        return f"CoordinatorIdentity({self.id})"


def ensure_coordinator_identity(state_dir: Path) -> CoordinatorIdentity:
    """Returns the identity stored in `state_dir`, created at the first start. Raises StoreError, DamagedStoreError."""
    path = state_dir / KEY_FILE
    own_folder(state_dir, "a state directory")
    with locked_folder(state_dir):
        if not os.path.lexists(path):
            if (state_dir / COORDINATOR_DB).exists():
                raise DamagedStoreError(
                    str(path),
                    f"is missing although {COORDINATOR_DB} is there: nodes would not recognise this coordinator; "
                    "restore the key from a backup",
                )
            replace_file(path, private_key_pem(Ed25519PrivateKey.generate()))
        identity = read_coordinator_identity(state_dir)
        if not os.path.lexists(state_dir / ID_FILE):
            replace_file(state_dir / ID_FILE, identity.id.encode("ascii") + b"\n")
        return identity


def read_coordinator_identity(state_dir: Path) -> CoordinatorIdentity:
    """Returns the identity in `state_dir`, compared with `coordinator.id` if that exists. Raises StoreError."""
    path = state_dir / KEY_FILE
    identity = identity_of(load_private_key(path))
    named = read_coordinator_id(state_dir)
    if named not in ("", identity.id):
        raise DamagedStoreError(
            str(path),
            f"is the key of {identity.id}, but {ID_FILE} names {ascii(named)[1:-1]}; restore both from one backup, or, "
            f"if the key is the right one, remove {ID_FILE}: the next start makes it again",
        )
    return identity


def read_coordinator_id(state_dir: Path) -> str:
    """Returns the id in `coordinator.id`, or "" if the file does not exist. Raises StoreError."""
    path = state_dir / ID_FILE
    try:
        return read_file(path, 100).decode("utf-8", "backslashreplace").rstrip("\n")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from error


def identity_of(key: Ed25519PrivateKey) -> CoordinatorIdentity:
    """Derives the identity from a key."""
    public = key.public_key()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    secret = hmac.digest(seed, _SECRET_DOMAIN, "sha256")
    sum_key = hmac.digest(seed, _SUM_DOMAIN, "sha256")
    own_id = coordinator_id_of_key(raw_public_key(public))
    return CoordinatorIdentity(own_id, public_key_text(public), key, secret, sum_key)


def ensure_operator_token(state_dir: Path, token_store: TokenStore, now: float) -> Path:
    """Returns the path of the first operator token, created if there was never one. Raises StoreError."""
    path = state_dir / OPERATOR_TOKEN_FILE
    with locked_folder(state_dir):
        if not any(token.role == "operator" for token in token_store.tokens()):
            if os.path.lexists(path):
                raise DamagedStoreError(
                    str(path),
                    f"exists, but {COORDINATOR_DB} has no operator token: it is not the previous file; "
                    f"restore it from a backup. Without one, move {OPERATOR_TOKEN_FILE} aside, and start again",
                )
            token, secret = token_store.create("operator", now, label="first operator")
            try:
                replace_file(path, secret.encode("ascii") + b"\n")
            except StoreError:
                token_store.revoke(token.id, now)
                raise
    return path
