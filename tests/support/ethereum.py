"""A wallet with a key, as a person has one: it signs messages after EIP-191."""

from __future__ import annotations

from coincurve import PrivateKey
from Crypto.Hash import keccak

__all__ = ["Wallet"]


def _keccak(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


class Wallet:
    """The wallet of a small secret number."""

    def __init__(self, secret: int) -> None:
        self._key = PrivateKey.from_int(secret)
        self.address = "0x" + _keccak(self._key.public_key.format(compressed=False)[1:])[-20:].hex()

    def sign(self, message: str) -> str:
        data = message.encode()
        digest = _keccak(b"\x19Ethereum Signed Message:\n%d" % len(data) + data)
        signature = self._key.sign_recoverable(digest, hasher=None)
        return "0x" + (signature[:64] + bytes([signature[64] + 27])).hex()
