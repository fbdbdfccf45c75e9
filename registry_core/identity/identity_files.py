"""The two files of a node's identity: `node.key`, which is secret, and `node.id`, which is all that most starts read.

This module reads and checks them, and starts the child process that makes them. It does not import `cryptography`;
`make_key` and `keys` make and load keys.

The key is made only once: damaged files are an error and are never replaced, since a new key means a new node without
history. `node.key` alone is the whole identity (`node_key`), also after a replacement (`replace_key`): `node.id` is
made from it again whenever it is missing.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from registry_core.errors import DamagedStoreError, StoreError, ValidationError, reason_of
from registry_core.files.opening import Folder, own_folder, read_file
from registry_core.models.ids import key_from_text, node_id_of_key

__all__ = ["ID_FILE", "KEY_FILE", "NodeIdentity", "ensure_identity", "read_identity"]

KEY_FILE = "node.key"
ID_FILE = "node.id"

_MAX_ID_FILE_BYTES = 4096
_ID_FIELDS = {"id", "public_key", "first_public_key", "checksum"}
_CHILD_SECONDS = 60.0  # it takes 0.2 s, but longer on a machine that swaps
_RESTORE = "restore it from a backup, or move both node.key and node.id away to become a new node without history"

# -I and the parent's import path: nothing in the working directory is imported, and it also works for a parent that
# runs from an unusual place (a zip file, a vendored folder).
_CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from registry_core.identity.make_key import main; sys.exit(main(sys.argv[2]))"
)


@dataclass(frozen=True)
class NodeIdentity:
    """The node's permanent id, and its present Ed25519 public key (32 raw bytes in base64)."""

    id: str
    public_key: str


def ensure_identity(state_dir: Union[str, Path]) -> NodeIdentity:
    """The identity in `state_dir`, which the first start makes durably.

    Two simultaneous starts get the same identity. Raises DamagedStoreError when a file is damaged, or missing so that
    it cannot be restored; StoreError when one cannot be read or written, or when others can read the key. Never makes
    a second identity.
    """
    folder = Path(state_dir)
    while True:
        own_folder(folder, "a state directory")
        if not (os.path.lexists(folder / KEY_FILE) and os.path.lexists(folder / ID_FILE)):
            _make_in_child(folder)
        try:
            return read_identity(folder)
        except DamagedStoreError:
            raise
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # The key is being replaced, which removes node.id for a moment; the child process waits for its end.


def read_identity(state_dir: Union[str, Path]) -> NodeIdentity:
    """The identity in `state_dir`, which must exist. Raises what `ensure_identity` raises."""
    folder = Path(state_dir)
    check_key_file(folder)
    return parse_id_file(folder)


def check_key_file(folder: Path) -> None:
    """Check, without reading it, that the key file is regular, accessible to its owner only, and readable by us."""
    path = folder / KEY_FILE
    try:
        with Folder(folder) as opened:
            found = opened.look(KEY_FILE)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from error
    if found is None:
        if not os.path.lexists(folder / ID_FILE):
            raise StoreError(str(path), "does not exist; the first start of the agent makes it")
        raise DamagedStoreError(str(path), f"is missing although {ID_FILE} exists; {_RESTORE}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise StoreError(str(path), f"is accessible to other users (mode {mode:04o}); run chmod 600 on it")
    if found.st_size == 0:
        raise DamagedStoreError(str(path), f"is empty; {_RESTORE}")
    if not os.access(path, os.R_OK):
        raise StoreError(str(path), f"cannot be read: it belongs to user id {found.st_uid}; run as that user")


def parse_id_file(folder: Path) -> NodeIdentity:
    """The identity in `node.id`, checked as far as possible without the key. Raises StoreError, DamagedStoreError."""
    path = folder / ID_FILE
    try:
        content = read_file(path, _MAX_ID_FILE_BYTES + 1)
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from error
    remedy = f"remove only this file, and the next start makes it again from {KEY_FILE}"
    if len(content) > _MAX_ID_FILE_BYTES:
        raise DamagedStoreError(str(path), f"is longer than {_MAX_ID_FILE_BYTES} bytes; {remedy}")
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedStoreError(str(path), f"is not JSON; {remedy}") from None
    if not isinstance(given, dict):
        raise DamagedStoreError(str(path), f"is not a map of fields; {remedy}")
    unknown = sorted(given.keys() - _ID_FIELDS)
    if unknown:
        raise DamagedStoreError(str(path), f"{unknown[0][:40]!a} is not a known field; {remedy}")
    public_key = given.get("public_key")
    try:
        key_from_text("public_key", public_key)
        first_key = key_from_text("first_public_key", given.get("first_public_key", public_key))
    except ValidationError as error:
        raise DamagedStoreError(str(path), f"{error}; {remedy}") from None
    node_id = node_id_of_key(first_key)
    if given.get("id") != node_id:
        raise DamagedStoreError(str(path), f"its id does not match its key, whose id is {node_id}; {remedy}")
    if "checksum" in given and given["checksum"] != id_checksum(given):
        raise DamagedStoreError(str(path), f"it does not match its checksum; {remedy}")
    return NodeIdentity(node_id, str(public_key))


def id_checksum(content: Mapping[str, object]) -> int:
    """Returns the checksum of the other fields of `node.id`.

    It is stored after a key change: the id is not derived from the new key.
    """
    return zlib.crc32(ascii([content.get(name) for name in ("id", "public_key", "first_public_key")]).encode("ascii"))


def _make_in_child(folder: Path) -> None:
    """Make or complete the pair in a child process, so that this one never loads `cryptography`."""
    import subprocess  # here, since only the first start needs it

    if not sys.executable:
        raise StoreError(
            str(folder), "has no node key, and the path of the Python interpreter that makes one is unknown"
        )
    options = ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]
    command = [sys.executable, *options, "-c", _CHILD, json.dumps(sys.path), str(folder)]
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and code; the folder is only an argument
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StoreError(str(folder), f"making the node key took longer than {_CHILD_SECONDS:g} s") from None
    except OSError as error:
        raise StoreError(
            str(folder), f"the process that makes the node key cannot be started: {reason_of(error)}"
        ) from error
    if child.returncode != 0:
        raise _child_error(folder, child.returncode, child.stdout, child.stderr)


def _child_error(folder: Path, code: int, output: bytes, errors: bytes) -> StoreError:
    """The error that the child reported, else one with its exit code and last line."""
    try:
        report = json.loads(output)
        path, reason, damaged = str(report["path"]), str(report["reason"]), bool(report["damaged"])
    except (ValueError, KeyError, TypeError):
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return StoreError(
            str(folder), f"the process that makes the node key failed with exit code {code}: {last[:200]}"
        )
    return DamagedStoreError(path, reason) if damaged else StoreError(path, reason)
