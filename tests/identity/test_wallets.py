"""Signatures of Ethereum-style wallets: published ones, and ones made here by the library that wallets are built on."""

from __future__ import annotations

import sys

import pytest

from registry_core.errors import NotSupportedError, ValidationError
from registry_core.identity.wallets import EthereumWallets, canonical_wallet, proof_message
from tests.support.ethereum import Wallet

# Published by the documentation of eth-account (`Account.sign_message`) and of web3.js (`accounts.sign`).
PUBLISHED = [
    (
        "0x5ce9454909639D2D17A3F753ce7d93fa0b9aB12E",
        "I♥SF",
        "0xe6ca9bba58c88611fad66a6ce8f996908195593807c4b38bd528d2cff09d4eb33e5bfbbf4d3e39b1a2fd816a7680c19ebebaf3a141b239934ad43cb33fcec8ce1c",
    ),
    (
        "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23",
        "Some data",
        "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c",
    ),
]


@pytest.mark.parametrize(("address", "message", "signature"), PUBLISHED)
def test_published_signatures_verify_and_only_for_their_address_and_message(
    address: str, message: str, signature: str
) -> None:
    verify = EthereumWallets().verify
    assert verify(address, message, signature)
    assert verify(address.lower(), message, signature[2:].upper())
    assert not verify(address, message + ".", signature)
    assert not verify("0x" + "1" * 40, message, signature)


def test_what_a_wallet_signs_verifies_with_either_writing_of_its_last_byte() -> None:
    wallet = Wallet(7)
    signature = wallet.sign("hello")
    assert EthereumWallets().verify(wallet.address, "hello", signature)
    last = int(signature[-2:], 16) - 27
    assert EthereumWallets().verify(wallet.address, "hello", f"{signature[:-2]}{last:02x}")


def test_the_twin_of_a_signature_is_refused() -> None:
    wallet = Wallet(7)
    raw = bytes.fromhex(wallet.sign("hello")[2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = raw[:32] + (order - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big") + bytes([55 - raw[64]])
    assert not EthereumWallets().verify(wallet.address, "hello", twin.hex())


@pytest.mark.parametrize("signature", ["", "0x", "00" * 64, "zz" * 65, "00" * 64 + "05", "00" * 66])
def test_what_is_no_signature_is_named(signature: str) -> None:
    with pytest.raises(ValidationError, match="signature"):
        EthereumWallets().verify("0x" + "1" * 40, "hello", signature)


@pytest.mark.parametrize("signature", ["00" * 64 + "1b", "ff" * 32 + "00" * 31 + "01" + "1b"])
def test_numbers_that_no_key_could_have_made_prove_nothing(signature: str) -> None:
    assert not EthereumWallets().verify("0x" + "1" * 40, "hello", signature)


def test_a_label_is_no_ethereum_address() -> None:
    with pytest.raises(ValidationError, match="wallet_address"):
        EthereumWallets().verify("my wallet", "hello", "00" * 64 + "1b")


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coincurve", None)
    with pytest.raises(NotSupportedError, match=r"pip install '\.\[ethereum\]'"):
        EthereumWallets().verify(Wallet(7).address, "hello", Wallet(7).sign("hello"))


def test_the_message_names_purpose_and_node_and_is_fixed() -> None:
    assert proof_message("n1abc") == "DuxNet wallet proof, version 1\nThis wallet vouches for the node n1abc"
    with pytest.raises(ValidationError):
        proof_message("two\nlines")


def test_an_address_has_one_spelling() -> None:
    assert canonical_wallet("0xAB" + "c" * 38) == canonical_wallet("0xab" + "C" * 38)
    assert canonical_wallet("Label") == "Label"
