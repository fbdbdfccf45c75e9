"""Sealed values open where they were sealed, with a key that is known, and nowhere else."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_core.errors import NotSupportedError, ValidationError
from registry_core.storage.sealing import OVERHEAD_BYTES, CannotOpen, KeyRing, Sealer, SealingKey, key_from_text

OLD = SealingKey(bytes(range(32)))
NEW = SealingKey(bytes(range(100, 132)))


@settings(max_examples=50)
@given(plain=st.binary(max_size=2000), name=st.binary(max_size=64))
def test_what_was_sealed_opens_again_and_grows_by_a_fixed_overhead(plain: bytes, name: bytes) -> None:
    sealer = Sealer(KeyRing.of(OLD), b"store")
    sealed = sealer.seal(plain, name)
    assert sealer.open(sealed, name) == plain
    assert len(sealed) == len(plain) + OVERHEAD_BYTES


def test_a_sealed_value_does_not_open_in_the_place_of_another_record() -> None:
    sealer = Sealer(KeyRing.of(OLD), b"store")
    with pytest.raises(CannotOpen, match="belongs to another record"):
        sealer.open(sealer.seal(b"secret", b"node-1"), b"node-2")


def test_a_sealed_value_does_not_open_in_another_store() -> None:
    sealed = Sealer(KeyRing.of(OLD), b"store-1").seal(b"secret", b"node-1")
    with pytest.raises(CannotOpen, match="belongs to another record"):
        Sealer(KeyRing.of(OLD), b"store-2").open(sealed, b"node-1")


def test_the_parts_of_the_associated_data_cannot_run_into_each_other() -> None:
    sealed = Sealer(KeyRing.of(OLD), b"store").seal(b"secret", b"1node")
    with pytest.raises(CannotOpen):
        Sealer(KeyRing.of(OLD), b"store1").open(sealed, b"node")


def test_every_flipped_bit_is_noticed() -> None:
    sealer = Sealer(KeyRing.of(OLD), b"store")
    sealed = sealer.seal(b"x", b"n")
    for index in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[index] ^= 1 << bit
            with pytest.raises(CannotOpen):
                sealer.open(bytes(changed), b"n")


def test_every_shorter_value_is_noticed() -> None:
    sealer = Sealer(KeyRing.of(OLD), b"store")
    sealed = sealer.seal(b"plain text", b"n")
    for length in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:length], b"n")


def test_any_key_of_the_ring_opens_and_the_newest_seals() -> None:
    old = Sealer(KeyRing.of(OLD), b"s")
    both = Sealer(KeyRing.of([NEW, OLD]), b"s")
    sealed_before = old.seal(b"plain", b"n")
    assert both.open(sealed_before, b"n") == b"plain"
    assert not both.is_newest(sealed_before)
    sealed_after = both.seal(b"plain", b"n")
    assert both.is_newest(sealed_after)
    with pytest.raises(CannotOpen, match=NEW.id.hex()):
        old.open(sealed_after, b"n")


def test_neither_repr_nor_errors_nor_tracebacks_show_a_key() -> None:
    secret = bytes(range(65, 97))  # printable, so that it would be seen
    key = SealingKey(secret)
    shown = [repr(key), str(key), repr(KeyRing.of(key)), repr(Sealer(KeyRing.of(key), b"s"))]
    for wrong in (secret[:31], secret + b"!", secret.decode() + "?", [secret[:5]], {"key": secret}):
        try:
            KeyRing.of(wrong)
        except ValidationError as error:
            shown += [str(error), repr(error), "".join(traceback.format_exception(type(error), error, None))]
    assert len(shown) == 4 + 3 * 5
    for text in shown:
        assert "EFGH" not in text
        assert secret.hex()[8:16] not in text


def test_a_key_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="in clear"):
        pickle.dumps(OLD)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "A" * 43, "A" * 44 + "="])
def test_text_that_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValidationError, match="encryption_key") as caught:
        key_from_text(text)
    assert not text or text not in str(caught.value)


def test_a_key_reads_from_hexadecimal_and_from_base64() -> None:
    import base64

    secret = bytes(range(32))
    assert key_from_text(secret.hex().upper() + "\n") == OLD
    assert key_from_text(base64.b64encode(secret).decode()) == OLD
    assert key_from_text(OLD.to_text()) == OLD


def test_an_openssl_without_the_cipher_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_key: bytes) -> None:
        raise UnsupportedAlgorithm("AES-GCM-SIV is not supported by this version of OpenSSL")

    # Patched because no OpenSSL without the cipher is at hand; the library raises exactly this.
    monkeypatch.setattr(aead, "AESGCMSIV", lacking)
    with pytest.raises(NotSupportedError, match=r"OpenSSL .* lacks .* install"):
        Sealer(KeyRing.of(OLD), b"s")


def test_cryptography_is_imported_only_when_something_is_sealed() -> None:
    code = (
        "import sys; from registry_core.storage import key_sources, sealing; "
        "sealing.KeyRing.of(bytes(range(32))); sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
