"""A file that is sealed as a whole: a first line that marks it, then one sealed value.

Raises an error for a sealed file without a key, and for a file in clear with one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from registry_core.errors import DamagedStoreError, SealedStoreError, StoreError, reason_of
from registry_core.files.opening import read_regular
from registry_core.storage.sealing import OVERHEAD_BYTES, CannotOpen, KeyRing, Sealer, key_id_of

__all__ = ["FileSeal", "is_sealed_file"]

_FIRST_LINE = b"duxnet.nodes sealed/1\n"
_BOUND_TO = b"duxnet.nodes.json"


def is_sealed_file(path: Path) -> Optional[bytes]:
    """The id of the key with which the file at `path` is sealed; None for one in clear. Raises StoreError."""
    try:
        head = read_regular(path, len(_FIRST_LINE) + OVERHEAD_BYTES)
    except OSError as error:
        raise StoreError(str(path), f"cannot be read: {reason_of(error)}") from None
    if not head.startswith(_FIRST_LINE):
        return None
    try:
        return key_id_of(head[len(_FIRST_LINE) :])
    except CannotOpen as error:
        raise DamagedStoreError(str(path), str(error)) from None


class FileSeal:
    """Opens and seals the bytes of one file; without keys it passes clear text through."""

    def __init__(self, location: str, keys: Optional[KeyRing]) -> None:
        self._location = location
        self._sealer = None if keys is None else Sealer(keys, _BOUND_TO)

    def refuse_clear(self) -> None:
        """Raises SealedStoreError when there is no key."""
        if self._sealer is None:
            raise SealedStoreError(self._location, "it is not sealed, so it has no key to change")

    def sealed(self, plain: bytes) -> bytes:
        """The bytes to write."""
        return plain if self._sealer is None else _FIRST_LINE + self._sealer.seal(plain, b"file")

    def opened(self, raw: bytes) -> bytes:
        """The bytes as they were before sealing. Raises SealedStoreError and DamagedStoreError."""
        is_sealed = raw.startswith(_FIRST_LINE)
        if self._sealer is None:
            if is_sealed:
                raise SealedStoreError(self._location, "it is sealed; give its encryption key")
            return raw
        if not is_sealed:
            reason = "it is not sealed, but an encryption key was given; seal it with `duxnet registry migrate`"
            raise SealedStoreError(self._location, reason)
        value = raw[len(_FIRST_LINE) :]
        try:
            if self._sealer.ring.get(key_id_of(value)) is None:
                given = ", ".join(key.id.hex() for key in self._sealer.ring.keys)
                reason = f"it is sealed with key {key_id_of(value).hex()}; the keys given are {given}"
                raise SealedStoreError(self._location, reason)
            return self._sealer.open(value, b"file")
        except CannotOpen as error:
            raise DamagedStoreError(self._location, str(error)) from None
