"""Gives a node a new key: it stays the same node, and the old key is no longer valid for it.

If the process is killed or the power fails at any moment, the disk has the old state or the new one:

1. Both new files are written beside the old ones as drafts, with fsync. On a full disk or in a read-only folder this
   fails, with nothing changed.
2. `node.id` is removed. From here on the state is that of an interrupted first start: the next start makes `node.id`
   again from `node.key`, whether that is the old key or the new one.
3. `node.key` is replaced, in one rename, by its draft, which has the new key and the chain that leads to it. Before it
   the node has the old key, after it the new one.
4. `node.id` is replaced by its draft.

Each step is on the disk before the next begins. Leftover drafts of a killed process are ignored, and the next writer
removes them. Everything happens under the folder's lock: two simultaneous calls make two replacements, one after the
other, and a start waits meanwhile. The old key is not kept: the chain has its signature of the new one, and nothing
else is needed of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.errors import StoreError
from registry_core.files.atomic import discard_draft, place_draft, remove_file, write_draft
from registry_core.files.locks import locked_folder
from registry_core.identity.identity_files import ID_FILE, KEY_FILE, check_key_file
from registry_core.identity.node_key import NodeKey, load_key_file, load_node_key
from registry_core.identity.succession import MOST_LINKS

__all__ = ["replace_key"]


def replace_key(folder: Path) -> NodeKey:
    """Replace the key in a state directory durably; returns the new key. The files keep their owner.

    Raises StoreError, DamagedStoreError; then the old key is still valid, unless the folder failed after step 3.
    """
    key_path, id_path = folder / KEY_FILE, folder / ID_FILE
    check_key_file(folder)
    with locked_folder(folder):
        old = load_node_key(folder)
        if len(old.succession) >= MOST_LINKS:
            raise StoreError(
                str(key_path),
                f"the node's key was already replaced {MOST_LINKS} times, which is the limit; to use another key, "
                f"move {KEY_FILE} and {ID_FILE} away: that makes a new node without history",
            )
        new = old.replaced_by(Ed25519PrivateKey.generate())
        found = key_path.stat()
        owner = (found.st_uid, found.st_gid)  # when root replaces a service's key, the service must be able to read it
        try:
            write_draft(key_path, new.key_file(), 0o600, owner=owner)
            write_draft(id_path, new.id_file(), 0o644, owner=owner)
        except StoreError:
            discard_draft(key_path)
            raise
        try:
            remove_file(id_path)
            place_draft(key_path)
            place_draft(id_path)
        except BaseException:
            with contextlib.suppress(StoreError):  # else the next start makes it
                write_draft(id_path, load_key_file(key_path).id_file(), 0o644, owner=owner)
                place_draft(id_path)
            discard_draft(key_path)
            raise
    return new
