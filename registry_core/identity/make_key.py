"""The child process that makes a node's key: first `node.key`, then `node.id`, each atomically.

A run after a crash between the two, or during a replacement (`replace_key`), completes the pair from the key. The exit
code is 0, or 1 with a line of JSON on standard output that has the file and the error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.errors import DamagedStoreError, StoreError
from registry_core.files.atomic import discard_draft, replace_file
from registry_core.files.locks import locked_folder
from registry_core.identity.identity_files import ID_FILE, KEY_FILE
from registry_core.identity.node_key import NodeKey, load_key_file


def make(folder: Path) -> None:
    """Make the missing files of the pair. Raises StoreError, DamagedStoreError."""
    with locked_folder(folder):
        key_path, id_path = folder / KEY_FILE, folder / ID_FILE
        if not os.path.lexists(key_path):
            if os.path.lexists(id_path):
                raise DamagedStoreError(
                    str(key_path),
                    f"is missing although {ID_FILE} exists; restore it from a backup, "
                    f"or move {ID_FILE} away to become a new node without history",
                )
            replace_file(key_path, NodeKey(Ed25519PrivateKey.generate()).key_file(), 0o600)
        if not os.path.lexists(id_path):
            discard_draft(key_path)  # of an interrupted replacement
            replace_file(id_path, load_key_file(key_path).id_file(), 0o644)


def main(folder: str) -> int:
    """Make the pair in `folder`; returns 0, or 1 after writing the error to standard output."""
    try:
        make(Path(folder))
    except StoreError as error:
        reason = error.where if isinstance(error, DamagedStoreError) else error.reason
        report = {"path": error.path, "reason": reason, "damaged": isinstance(error, DamagedStoreError)}
        sys.stdout.write(json.dumps(report))  # noqa: TID251 - a pipe to the process that started this one
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
