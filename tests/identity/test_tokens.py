"""Session tokens and challenges that nobody else can make; key succession that both keys must sign."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.errors import ValidationError
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.succession import current_key, succeed
from registry_core.identity.tokens import (
    SessionToken,
    challenge_nonce,
    hashed_secret,
    new_secret,
    open_session,
    seal_session,
    valid_nonce,
)
from registry_core.models.ids import node_id_of_key

SECRET = b"s" * 32
TOKEN = SessionToken("n1abc", 7, 1_800_000_000)


def test_a_session_token_opens_with_the_secret_that_sealed_it() -> None:
    assert open_session(seal_session(TOKEN, SECRET), SECRET) == TOKEN


@pytest.mark.parametrize(
    "other", [replace(TOKEN, generation=8), replace(TOKEN, node_id="n1abd"), replace(TOKEN, expires=1_900_000_000)]
)
def test_a_seal_holds_for_one_token_only(other: SessionToken) -> None:
    stolen = seal_session(TOKEN, SECRET).rpartition("~")[2]
    forged = seal_session(other, b"x" * 32).rpartition("~")[0] + "~" + stolen
    assert open_session(forged, SECRET) is None


@pytest.mark.parametrize("text", ["", "~", "~~~", "a~1~2~", "n1abc~7~1800000000", "ü~1~2~ü", "a~b~c~d", "\udcff~1~2~x"])
def test_what_is_no_token_opens_to_nothing(text: str) -> None:
    assert open_session(text, SECRET) is None


def test_a_challenge_is_known_again_for_its_key_and_for_a_minute() -> None:
    nonce = challenge_nonce("key", 1000, SECRET)
    assert valid_nonce(nonce, "key", 1060, SECRET)
    assert not valid_nonce(nonce, "key", 1061, SECRET)
    assert not valid_nonce(nonce, "key", 999, SECRET)
    assert not valid_nonce(nonce, "other", 1000, SECRET)
    assert not valid_nonce(nonce, "key", 1000, b"x" * 32)
    for nonsense in ("", "~", "1000~", "x~y", "٣~x", "9" * 30 + "~x"):
        assert not valid_nonce(nonsense, "key", 1000, SECRET)


def test_a_secret_is_kept_as_its_hash() -> None:
    secret = new_secret("dux_operator")
    assert secret.startswith("dux_operator_")
    assert len(secret) > 50
    assert secret not in hashed_secret(secret)
    assert hashed_secret(secret) == hashed_secret(secret)


def test_a_chain_of_successions_ends_with_the_key_that_speaks_for_the_node() -> None:
    first, second, third = (Ed25519PrivateKey.generate() for _ in range(3))
    node_id = node_id_of_key(raw_public_key(first.public_key()))
    chain = [succeed(node_id, first, second), succeed(node_id, second, third)]
    first_text = public_key_text(first.public_key())
    assert current_key(node_id, first_text, []) == first_text
    assert current_key(node_id, first_text, chain) == public_key_text(third.public_key())
    for broken in (
        chain[1:],
        [chain[0], chain[0]],
        [replace(chain[0], new_signature=chain[0].old_signature)],
        [replace(chain[0], old_signature="?")],
        [replace(chain[0], new_key=public_key_text(third.public_key()))],
        [replace(chain[0], node_id="n1other")],
    ):
        with pytest.raises(ValidationError, match="succession"):
            current_key(node_id, first_text, broken)
    with pytest.raises(ValidationError, match="first public key"):
        current_key("n1other", first_text, [])
