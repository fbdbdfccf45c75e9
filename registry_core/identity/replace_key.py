"""Giving a node a new key: it stays the same node, and the old key no longer speaks for it.

What is on the disk is the old state or the new one, whenever the process is killed or the power fails:

1. both new files are written beside the old ones as drafts, with fsync: a full disk or a read-only folder ends here,
   with nothing changed;
2. `node.id` is removed: from here on the state is that of a first start which was interrupted, and the next start
   makes `node.id` again from `node.key`, whichever that is;
3. `node.key` is replaced by its draft, which holds the new key and the chain that leads to it, in one rename: before
   it the node has the old key, after it the new one;
4. `node.id` is replaced by its draft.

Each step is on the disk before the next begins. Drafts of one who was killed say nothing to anybody; the next one who
writes removes them. All of it is under the folder's lock, so that two at once make two replacements, one after the
other, and a start meanwhile waits. The old key is not kept: all that it was needed for, its signature under the new
one, is in the chain.
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
    """Replace the key in a state directory, durably; the new one. The files keep their owner.

    Raises StoreError, DamagedStoreError; the old key is in force then, unless the folder failed in the middle.
    """
    key_path, id_path = folder / KEY_FILE, folder / ID_FILE
    check_key_file(folder)
    with locked_folder(folder):
        old = load_node_key(folder)
        if len(old.succession) >= MOST_LINKS:
            raise StoreError(
                str(key_path),
                f"the node's key was replaced {MOST_LINKS} times already, and that is the most; to go on with another, "
                f"move {KEY_FILE} and {ID_FILE} away: that makes a new node without history",
            )
        new = old.replaced_by(Ed25519PrivateKey.generate())
        found = key_path.stat()
        owner = (found.st_uid, found.st_gid)  # root replaces the key of a service that could not read root's
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
