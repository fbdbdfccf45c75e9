"""Reads sealing keys from a systemd credential, a file that only its owner can read, or the environment.

Keys are never read from a command line, which every user of the machine can see. The order is fixed and the first
source that exists is used. If it cannot be read, that is an error: neither is the next source tried, nor does the
registry run without a key.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from registry_core.errors import StoreError, ValidationError, reason_of
from registry_core.files.atomic import replace_file
from registry_core.files.locks import locked_folder
from registry_core.files.opening import open_regular
from registry_core.storage.sealing import KEY_BYTES, KeyRing, SealingKey, key_from_text

__all__ = ["CREDENTIAL_NAME", "ENVIRONMENT_NAME", "find_keys", "read_key_file", "write_key_file"]

CREDENTIAL_NAME = "registry-encryption-key"
ENVIRONMENT_NAME = "DUXNET_REGISTRY_ENCRYPTION_KEY"

_LARGEST_KEY_FILE_BYTES = 64 * 1024
_log = logging.getLogger("registry_core.storage")


def find_keys(key_file: Optional[Path], environ: Mapping[str, str]) -> Optional[KeyRing]:
    """The keys of the first source that has any, or None when no source is set.

    In order: the credential `registry-encryption-key` in `$CREDENTIALS_DIRECTORY`, `key_file`, the variable
    DUXNET_REGISTRY_ENCRYPTION_KEY (with a warning). Raises StoreError (unreadable, open to others) and
    ValidationError (not a key); neither shows what was read.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY", "")
    if credentials and (Path(credentials) / CREDENTIAL_NAME).exists():
        # systemd chooses the credential's mode and owner (0440 root in some versions), in a directory that only the
        # unit can enter, so its mode is not checked.
        return read_key_file(Path(credentials) / CREDENTIAL_NAME, check_mode=False)
    if key_file is not None:
        return read_key_file(key_file)
    text = environ.get(ENVIRONMENT_NAME, "")
    if not text:
        return None
    _log.warning(
        "the encryption key comes from the environment variable %s, which child processes inherit and core dumps "
        "contain; prefer a key file of mode 0600 or a systemd credential",
        ENVIRONMENT_NAME,
    )
    return _ring_from_text(text.replace(",", "\n"))


def read_key_file(path: Path, *, check_mode: bool = True) -> KeyRing:
    """The keys of a file: 32 raw bytes, or one key per line as text, newest first; `#` begins a comment line.

    With `check_mode` the file must belong to the caller (or root), with no access for group and others.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            if check_mode:
                _refuse_careless_mode(path, os.fstat(file.fileno()))
            content = file.read(_LARGEST_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise StoreError(str(path), f"the key file cannot be read: {reason_of(error)}") from None
    if len(content) == KEY_BYTES:
        return KeyRing((SealingKey(content),))
    try:
        return _ring_from_text(content[:_LARGEST_KEY_FILE_BYTES].decode("ascii"))
    except (ValidationError, UnicodeDecodeError):
        rule = "holds no key: it must have 32 raw bytes, or one key per line as 64 hexadecimal digits or base64"
        raise StoreError(str(path), rule) from None


def write_key_file(path: Path, ring: KeyRing) -> None:
    """Write the keys, newest first, durably and atomically; the file has mode 0600 before it has content."""
    lines = ["# DuxNet registry encryption keys, the newest first. Keep a copy away from the data."]
    content = "\n".join([*lines, *(key.to_text() for key in ring.keys), ""]).encode("ascii")
    with locked_folder(path.parent):
        replace_file(path, content)


def _ring_from_text(text: str) -> KeyRing:
    lines = (line.strip() for line in text.splitlines())
    return KeyRing(key_from_text(line) for line in lines if line and not line.startswith("#"))


def _refuse_careless_mode(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise StoreError(
            str(path), f"the key file is open to other users (mode {mode:04o}); run chmod 600 on it, and use a new key"
        )
    if status.st_uid not in (0, os.geteuid()):
        raise StoreError(str(path), f"the key file belongs to another user (uid {status.st_uid})")
