"""The two files of a node's identity: `node.key`, which is secret, and `node.id`, which is all that most starts read.

Here: reading and checking them, and starting the child that makes them. Not here: anything that needs
`cryptography`; making and loading keys is in `make_key` and `keys`.

The key is made once and never again by itself: a node whose files are damaged is told so, since a new key
is a new node without history. `node.key` alone is the whole identity (`node_key`), also after a replacement
(`replace_key`): `node.id` is made from it again whenever it is missing.
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
_CHILD_SECONDS = 60.0  # it takes 0.2 s; on a machine that swaps, longer
_RESTORE = "restore it from a backup, or move both node.key and node.id away to become a new node without history"

# -I and the parent's own path: nothing that lies in the working directory is imported, and a parent that runs from
# an unusual place (a zip file, a vendored folder) finds itself again.
_CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from registry_core.identity.make_key import main; sys.exit(main(sys.argv[2]))"
)


@dataclass(frozen=True)
class NodeIdentity:
    """Who this node is: its id for ever, and its present Ed25519 public key (32 raw bytes in base64)."""

    id: str
    public_key: str


def ensure_identity(state_dir: Union[str, Path]) -> NodeIdentity:
    """The identity kept in `state_dir`, made there durably at the first start.

    Two starts at once end with one identity. Raises DamagedStoreError where a file is damaged or half of the
    pair is missing beyond repair, StoreError where one cannot be read or written or the key is readable by
    others. Never makes a second identity.
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
            # The key is being replaced, which takes node.id away for a moment: the child waits for the end of that.


def read_identity(state_dir: Union[str, Path]) -> NodeIdentity:
    """The identity in `state_dir`, which must be there. The errors are those of `ensure_identity`."""
    folder = Path(state_dir)
    check_key_file(folder)
    return parse_id_file(folder)


def check_key_file(folder: Path) -> None:
    """Look at the key file without reading it: a regular file, for its owner only, readable by this process."""
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
            raise StoreError(str(path), "is not there: the first start of the agent makes it")
        raise DamagedStoreError(str(path), f"is missing although {ID_FILE} is there; {_RESTORE}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise StoreError(str(path), f"has mode {mode:04o}, so that others may read or change it; chmod 600 it")
    if found.st_size == 0:
        raise DamagedStoreError(str(path), f"is empty; {_RESTORE}")
    if not os.access(path, os.R_OK):
        raise StoreError(str(path), f"cannot be read: it belongs to user id {found.st_uid}; run as that user")


def parse_id_file(folder: Path) -> NodeIdentity:
    """What `node.id` says, checked as far as it can be without the key. Raises StoreError, DamagedStoreError."""
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
        raise DamagedStoreError(str(path), f"{unknown[0][:40]!a} is no field of it; {remedy}")
    public_key = given.get("public_key")
    try:
        key_from_text("public_key", public_key)
        first_key = key_from_text("first_public_key", given.get("first_public_key", public_key))
    except ValidationError as error:
        raise DamagedStoreError(str(path), f"{error}; {remedy}") from None
    node_id = node_id_of_key(first_key)
    if given.get("id") != node_id:
        raise DamagedStoreError(str(path), f"its id is not the one that belongs to its key, {node_id}; {remedy}")
    if "checksum" in given and given["checksum"] != id_checksum(given):
        raise DamagedStoreError(str(path), f"it does not match its checksum; {remedy}")
    return NodeIdentity(node_id, str(public_key))


def id_checksum(content: Mapping[str, object]) -> int:
    """Of what `node.id` says beside it. Files of a key that replaced another have it: no id follows from that key."""
    return zlib.crc32(ascii([content.get(name) for name in ("id", "public_key", "first_public_key")]).encode("ascii"))


def _make_in_child(folder: Path) -> None:
    """Make or complete the pair in a process of its own, so that this one never loads `cryptography`."""
    import subprocess  # only the first start pays for it

    if not sys.executable:
        raise StoreError(str(folder), "no node key is there, and the Python to make one with is not known")
    options = ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]
    command = [sys.executable, *options, "-c", _CHILD, json.dumps(sys.path), str(folder)]
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and code; the folder is an argument, never a command
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise StoreError(str(folder), f"making the node key took longer than {_CHILD_SECONDS:g} s") from None
    except OSError as error:
        raise StoreError(str(folder), f"the process to make the node key: {reason_of(error)}") from error
    if child.returncode != 0:
        raise _told(folder, child.returncode, child.stdout, child.stderr)


def _told(folder: Path, code: int, output: bytes, errors: bytes) -> StoreError:
    """The child's own error where it told one, else what is known of its end."""
    try:
        told = json.loads(output)
        path, reason, damaged = str(told["path"]), str(told["reason"]), bool(told["damaged"])
    except (ValueError, KeyError, TypeError):
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return StoreError(str(folder), f"making the node key ended with code {code}: {last[:200]}")
    return DamagedStoreError(path, reason) if damaged else StoreError(path, reason)
