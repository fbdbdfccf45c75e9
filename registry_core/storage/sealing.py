"""Encryption at rest: keys, key rings, and AES-256-GCM-SIV over single records or a whole file.

Where keys come from is in `key_sources`; what is sealed is decided by the stores. A sealed value is

    version (1 byte) ‖ key id (8) ‖ nonce (12) ‖ ciphertext with its tag (16 more than the plain text)

The associated data binds it to its place: format version, key id, store, and the name of the record in it. A
value that is moved to another record or another store, or relabelled with another key, does not open. GCM-SIV
(RFC 8452) tolerates a repeated nonce: it then reveals only whether two plain texts were equal.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn, Optional

from registry_core.errors import NotSupportedError, ValidationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

__all__ = ["KEY_BYTES", "CannotOpen", "KeyRing", "Sealer", "SealingKey", "key_from_text"]

KEY_BYTES = 32
KEY_ID_BYTES = 8
OVERHEAD_BYTES = 1 + KEY_ID_BYTES + 12 + 16

_VERSION = b"\x01"
_NONCE_BYTES = 12
_HEADER_BYTES = 1 + KEY_ID_BYTES + _NONCE_BYTES
_KEY_ID_DOMAIN = b"duxnet-sealing-key-id-v1"
_RECORD_KEY_DOMAIN = b"duxnet-sealing-record-key-v1"
_AAD_DOMAIN = b"duxnet-sealed-v1\x00"
_KEY_RULE = f"must be {KEY_BYTES} random bytes (in text: 64 hexadecimal digits, or 44 characters of base64)"


class CannotOpen(Exception):  # noqa: N818 - for the store, which raises an error that names the damaged record
    """This sealed value does not open: its key is unknown, it was changed, or it belongs to another place."""


class SealingKey:
    """One secret key of 32 bytes. `repr`, `str`, pickle and error texts never show it; `id` may be shown.

    The id is a keyed hash: it identifies the key without revealing anything about it.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValidationError("encryption_key", _hidden(secret), _KEY_RULE)
        self._secret = bytes(secret)
        self.id: bytes = _derived(self._secret, _KEY_ID_DOMAIN)[:KEY_ID_BYTES]

    @classmethod
    def generate(cls) -> SealingKey:
        """A new key from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES))

    def cipher(self) -> AESGCMSIV:
        """The cipher of this key. Raises NotSupportedError when the installed OpenSSL lacks AES-GCM-SIV."""
        return _gcm_siv(_derived(self._secret, _RECORD_KEY_DOMAIN))

    def to_text(self) -> str:
        """The key for a key file: 64 hexadecimal digits. The only way to read it; never log it."""
        return self._secret.hex()

    def __repr__(self) -> str:
        return f"<SealingKey {self.id.hex()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SealingKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SealingKey cannot be pickled: it would leave the process in clear")


class KeyRing:
    """Keys, newest first: the newest one seals, each of them opens."""

    __slots__ = ("_by_id", "keys")

    def __init__(self, keys: Iterable[SealingKey]) -> None:
        self.keys: tuple[SealingKey, ...] = tuple(dict.fromkeys(keys))
        if not self.keys:
            raise ValidationError("encryption_key", "no key", "must hold at least one key")
        self._by_id = {key.id: key for key in self.keys}

    @property
    def newest(self) -> SealingKey:
        """The key that seals."""
        return self.keys[0]

    def get(self, key_id: bytes) -> Optional[SealingKey]:
        """The key with this id, or None."""
        return self._by_id.get(key_id)

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(key.id.hex() for key in self.keys)}>"

    @classmethod
    def of(cls, given: object) -> KeyRing:
        """A ring from a value of `encryption_key`. Raises ValidationError, which never shows the value."""
        if isinstance(given, KeyRing):
            return given
        if isinstance(given, SealingKey):
            return cls((given,))
        if isinstance(given, (bytes, bytearray)):
            return cls((SealingKey(bytes(given)),))
        if isinstance(given, (list, tuple)):
            return cls(key for item in given for key in cls.of(item).keys)
        rule = "must be 32 bytes, a SealingKey, a KeyRing, or a list of these with the newest first"
        raise ValidationError("encryption_key", _hidden(given), rule)


class Sealer:
    """Seals and opens the values of one store. Each value is bound to `store_id`."""

    def __init__(self, ring: KeyRing, store_id: bytes) -> None:
        self.ring = ring
        self._store_id = store_id
        self._ciphers = {key.id: key.cipher() for key in ring.keys}
        self._newest_id = ring.newest.id
        self._newest = self._ciphers[self._newest_id]

    def seal(self, plain: bytes, name: bytes) -> bytes:
        """`plain` sealed under the newest key for the record `name`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._newest.encrypt(nonce, plain, self._associated(self._newest_id, name))
        return b"".join((_VERSION, self._newest_id, nonce, sealed))

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """The plain bytes that were sealed for the record `name` with any key of the ring. Raises CannotOpen."""
        from cryptography.exceptions import InvalidTag

        key_id = key_id_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen(f"it is sealed with key {key_id.hex()}, which is not among the keys given")
        nonce = sealed[1 + KEY_ID_BYTES : _HEADER_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES:], self._associated(key_id, name))
        except InvalidTag:
            raise CannotOpen("its seal does not match: it was changed, or it belongs to another record") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Whether this value is sealed with the newest key, so that a rotation can skip it."""
        return key_id_of(sealed) == self._newest_id

    def _associated(self, key_id: bytes, name: bytes) -> bytes:
        parts = (_VERSION, key_id, self._store_id, name)
        return _AAD_DOMAIN + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def key_id_of(sealed: bytes) -> bytes:
    """The id of the key that a sealed value needs. Raises CannotOpen when it does not look like a sealed value."""
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _VERSION:
        raise CannotOpen("it does not have the form of a sealed value of this version")
    return bytes(sealed[1 : 1 + KEY_ID_BYTES])


def key_from_text(text: str) -> SealingKey:
    """The key in 64 hexadecimal digits or 44 characters of base64. Raises ValidationError, which hides the text."""
    import base64
    import binascii

    stripped = text.strip()
    try:
        if len(stripped) == 2 * KEY_BYTES:
            return SealingKey(bytes.fromhex(stripped))
        return SealingKey(base64.b64decode(stripped, validate=True))
    except (ValueError, binascii.Error) as error:
        if isinstance(error, ValidationError):
            raise
    raise ValidationError("encryption_key", _hidden(text), _KEY_RULE)


def _derived(secret: bytes, domain: bytes) -> bytes:
    return hmac.new(secret, domain, hashlib.sha256).digest()


def _hidden(value: object) -> str:
    """How an error describes a value that should have been a key."""
    length = f" of length {len(value)}" if isinstance(value, (bytes, bytearray, str)) else ""
    return f"<{type(value).__name__}{length}, not shown>"


def _gcm_siv(secret: bytes) -> AESGCMSIV:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    try:
        return AESGCMSIV(secret)
    except UnsupportedAlgorithm:
        from cryptography.hazmat.backends.openssl import backend

        raise NotSupportedError(
            f"sealing needs AES-256-GCM-SIV, which {backend.openssl_version_text()} lacks (it needs OpenSSL 3.2 or "
            "later): install the `cryptography` wheel from PyPI, which includes its own OpenSSL"
        ) from None
