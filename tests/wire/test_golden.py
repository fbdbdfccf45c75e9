"""What nodes of each protocol sent, and were answered, when it was new: a coordinator of today does as they expect."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_core.identity.answer_signature import SignedAnswer, verify_answer
from registry_core.identity.keys import public_key_text
from registry_core.identity.signatures import SignedRequest
from registry_core.wire.shapes import PROTOCOL
from tests.support.exchanges import GOLDEN, KEY, NOW, Plain, a_coordinator, answer_of

PUBLIC = Ed25519PrivateKey.from_private_bytes(KEY).public_key()
OF_THE_MOMENT = {"last_heartbeat", "version", "protocol"}
"""Fields that differ from run to run, or that say that the coordinator is newer."""
FOR_PEOPLE = {"title", "detail", "remedy"}
"""Texts of a problem, whose wording may change: nodes decide by its `type`."""


def the_exchanges(protocol: int) -> list[Plain]:
    recorded = json.loads((GOLDEN / f"protocol-{protocol}.json").read_text())
    assert (recorded["now"], base64.b64decode(recorded["coordinator_key"])) == (NOW, KEY)
    found: list[Plain] = recorded["exchanges"]
    assert {exchange["answer"]["status"] for exchange in found} == {200, 204, 401, 409}
    return found


def is_within(expected: Any, found: Any) -> bool:
    """Does `found` hold every field of `expected`? It may have more."""
    if not isinstance(expected, dict):
        return bool(expected == found)
    return isinstance(found, dict) and all(
        name in found and (name in OF_THE_MOMENT | FOR_PEOPLE or is_within(value, found[name]))
        for name, value in expected.items()
    )


def check_as_protocol_1(request: Plain, answer: Plain) -> None:
    """A node of protocol 1 takes only what is sealed; refusals were not."""
    if request["method"] != "PUT" or request["path"].endswith("/heartbeat") or answer["status"] != 200:
        return
    asked = hashlib.sha256(request["headers"]["signature"].encode()).digest()
    leaf = hashlib.sha256(b"\x00" + asked + hashlib.sha256(answer["body"].encode()).digest()).digest()
    seal = base64.b64decode(answer["headers"]["duxnet-signature"], validate=True)
    PUBLIC.verify(seal, b"duxnet-answers-v2\x00" + leaf)


def check_as_protocol_2(request: Plain, answer: Plain) -> None:
    """A node of protocol 2 verifies each answer to a registration as RFC 9421 has it."""
    headers = request["headers"]
    whole = hashlib.sha256(request["body"].encode()).digest() in base64.b64decode(headers.get("content-digest", "")[9:])
    if request["method"] != "PUT" or "signature" not in headers or not whole:
        assert "signature" not in answer["headers"]
        return
    body = request["body"].encode()
    signed = SignedRequest("PUT", request["path"], "", headers["content-type"], headers["duxnet-audience"], body)
    given = SignedAnswer(answer["status"], answer["headers"]["content-type"], answer["body"].encode())
    verify_answer(given, answer["headers"], signed, headers, public_key_text(PUBLIC), headers["duxnet-audience"])


CHECKS = {1: check_as_protocol_1, 2: check_as_protocol_2}


def test_this_protocol_and_the_one_before_it_are_recorded() -> None:
    assert {PROTOCOL, PROTOCOL - 1} <= set(CHECKS)
    assert all((GOLDEN / f"protocol-{protocol}.json").is_file() for protocol in CHECKS)


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL])
def test_what_a_node_of_the_protocol_sent_is_answered_as_it_was(protocol: int, tmp_path: Path) -> None:
    with a_coordinator(tmp_path) as app:
        for exchange in the_exchanges(protocol):
            request, expected = exchange["request"], exchange["answer"]
            CHECKS[protocol](request, expected)  # what was recorded is what a node took
            found = answer_of(app, request)
            where = f"{request['method']} {request['path']}"
            assert found["status"] == expected["status"], (where, found)
            if expected["body"]:
                assert is_within(json.loads(expected["body"]), json.loads(found["body"])), (where, found, expected)
            for name in ("content-type", "accept-signature"):
                assert found["headers"].get(name) == expected["headers"].get(name), where
            CHECKS[protocol](request, found)
