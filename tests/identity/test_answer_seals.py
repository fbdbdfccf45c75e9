"""One signature for many answers: each holds by itself, and for nothing else."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.identity.coordinator_id import MOST_STEPS, is_sealed, seal_answers
from registry_core.identity.keys import public_key_text

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
PUBLIC = public_key_text(KEY.public_key())


def answers(count: int) -> list[tuple[str, bytes]]:
    return [(f"duxnet=:signature {number}:", b'{"answer": %d}' % number) for number in range(count)]


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, as it stands there: the left half is the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:half]) + tree_hash(leaves[half:])).digest()


def leaf(request_signature: str, body: bytes) -> bytes:
    parts = hashlib.sha256(request_signature.encode()).digest() + hashlib.sha256(body).digest()
    return hashlib.sha256(b"\x00" + parts).digest()


@pytest.mark.parametrize("count", [*range(1, 18), 31, 32, 33, 64, 100])
def test_each_answer_is_sealed_by_the_root_of_the_tree(count: int) -> None:
    given = answers(count)
    seals = seal_answers(given, KEY)
    root = tree_hash([leaf(*each) for each in given])
    signature = base64.b64encode(KEY.sign(b"duxnet-answers-v2\x00" + root)).decode()
    for (request, body), seal in zip(given, seals):
        assert seal.startswith(signature)
        assert is_sealed(seal, request, body, PUBLIC)
        assert len(seal) <= 88 + 45 * (count - 1).bit_length()


def test_a_seal_holds_for_nothing_else() -> None:
    given = answers(5)
    seals = seal_answers(given, KEY)
    other = public_key_text(Ed25519PrivateKey.generate().public_key())
    for place, (request, body) in enumerate(given):
        elsewhere = given[place - 1]
        assert not is_sealed(seals[place], request, elsewhere[1], PUBLIC)
        assert not is_sealed(seals[place], elsewhere[0], body, PUBLIC)
        assert not is_sealed(seals[place - 1], request, body, PUBLIC)
        assert not is_sealed(seals[place], request, body, other)


@pytest.mark.parametrize("place", range(5))
def test_a_changed_seal_does_not_hold(place: int) -> None:
    request, body = answers(5)[place]
    seal = seal_answers(answers(5), KEY)[place]
    swapped = {"<": ">", ">": "<"}
    for index, letter in enumerate(seal):
        changed = swapped.get(letter) or ("A" if letter != "A" else "B")
        spoiled = seal[:index] + changed + seal[index + 1 :]
        try:
            same = _decoded(spoiled) == _decoded(seal)
        except ValueError:
            same = False
        assert is_sealed(spoiled, request, body, PUBLIC) == same, index  # the last letter of each hash has spare bits


def _decoded(seal: str) -> list[object]:
    parts = seal.replace("<", " <").replace(">", " >").split(" ")
    return [
        base64.b64decode(parts[0], validate=True),
        *((part[0], base64.b64decode(part[1:], validate=True)) for part in parts[1:]),
    ]


@pytest.mark.parametrize("nonsense", ["", "<", ">", "AAAA", "<AAAA", "é", " ", "<<>>", "A" * 10_000, "\ud800"])
def test_nonsense_is_no_seal(nonsense: str) -> None:
    (request, body), (seal,) = answers(1)[0], seal_answers(answers(1), KEY)
    assert is_sealed(seal, request, body, PUBLIC)
    assert not is_sealed(nonsense, request, body, PUBLIC)
    assert not is_sealed(seal + nonsense, request, body, PUBLIC) or not nonsense


def test_a_way_longer_than_any_tree_is_not_followed() -> None:
    (request, body), (seal,) = answers(1)[0], seal_answers(answers(1), KEY)
    assert not is_sealed(seal + (">" + "A" * 43 + "=") * (MOST_STEPS + 1), request, body, PUBLIC)
