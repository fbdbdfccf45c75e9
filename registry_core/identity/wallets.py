"""Proof that the operator of a node holds a wallet's key: the message that the wallet signs, and its verifiers.

The effects of a proven wallet are in `registry_core.embedded.wallets`. This program never handles a wallet's key.
"""

from __future__ import annotations

import re
from typing import Protocol

from registry_core.errors import NotSupportedError, ValidationError
from registry_core.models import limits

__all__ = ["EthereumWallets", "WalletVerifier", "canonical_wallet", "proof_message"]

_ETHEREUM = re.compile(r"0[xX][0-9a-fA-F]{40}\Z")
_SIGNATURE = re.compile(r"(?:0[xX])?([0-9a-fA-F]{130})\Z")
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # of secp256k1


class WalletVerifier(Protocol):
    """Verifies signatures of one kind of wallet."""

    def verify(self, wallet_address: str, message: str, signature: str) -> bool:
        """Whether the holder of `wallet_address` signed `message`.

        Raises ValidationError for an address or a signature that is not of this kind of wallet, and NotSupportedError
        when the required library is not installed.
        """
        ...


def proof_message(node_id: str) -> str:
    """The exact message that the wallet signs and shows to its user. No line end after the last line."""
    return f"DuxNet wallet proof, version 1\nThis wallet vouches for the node {limits.identifier('id', node_id)}"


def canonical_wallet(wallet_address: str) -> str:
    """One spelling for each wallet: Ethereum addresses may have letters of either case."""
    return wallet_address.lower() if _ETHEREUM.match(wallet_address) else wallet_address


class EthereumWallets:
    """EIP-191 `personal_sign`: the address is recovered from the signature. Needs the extra `ethereum`."""

    def verify(self, wallet_address: str, message: str, signature: str) -> bool:
        """As `WalletVerifier.verify`; `signature` is r ‖ s ‖ v, 65 bytes in hexadecimal."""
        if not _ETHEREUM.match(wallet_address):
            raise ValidationError("wallet_address", wallet_address, "must be 0x and 40 hexadecimal digits")
        found = _SIGNATURE.match(signature)
        if found is None:
            raise ValidationError("signature", signature, "must be 65 bytes in hexadecimal: 0x and 130 digits")
        raw = bytes.fromhex(found.group(1))
        recovery = raw[64] - 27 if raw[64] >= 27 else raw[64]  # hardware wallets give 0 and 1
        if recovery not in (0, 1):
            raise ValidationError("signature", signature, "must end in 1b or 1c (some wallets: 00 or 01)")
        if int.from_bytes(raw[32:64], "big") > _HALF_ORDER:
            return False  # the other form of a valid signature, which EIP-2 forbids
        recovered = _recovered(_personal(message), raw[:64] + bytes([recovery]))
        return recovered == wallet_address.lower()


def _personal(message: str) -> bytes:
    """The bytes that EIP-191, version 0x45, signs for a message."""
    data = message.encode("utf-8")
    return b"\x19Ethereum Signed Message:\n" + str(len(data)).encode("ascii") + data


def _recovered(signed: bytes, signature: bytes) -> str:
    """The address whose key made the signature; "" when no key can have made it."""
    try:
        from coincurve import PublicKey
        from Crypto.Hash import keccak
    except ImportError:
        raise NotSupportedError(
            "verifying an Ethereum wallet needs the extra `ethereum`: "
            "in the checkout of DuxNet, pip install '.[ethereum]'"
        ) from None
    digest = keccak.new(digest_bits=256, data=signed).digest()
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError:  # not a point of the curve
        return ""
    return "0x" + keccak.new(digest_bits=256, data=key.format(compressed=False)[1:]).digest()[-20:].hex()
