"""Signing and verifying requests: the RFC's own vectors, and every way in which a request may not be what it says."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Optional

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from registry_core.identity.keys import public_key_text
from registry_core.identity.signatures import (
    COVERED,
    SignatureParameters,
    SignatureRefused,
    SignedRequest,
    content_digest,
    sign_request,
    signature_base,
    verify_request,
)

# RFC 9421 appendix B.1.4 (test-key-ed25519) and B.2.6; the Content-Digest is RFC 9530's for the same body.
RFC_KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
RFC_COMPONENTS = [
    ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
    ("@method", "POST"),
    ("@path", "/foo"),
    ("@authority", "example.com"),
    ("content-type", "application/json"),
    ("content-length", "18"),
]
RFC_PARAMETERS = (
    '("date" "@method" "@path" "@authority" "content-type" "content-length")'
    ';created=1618884473;keyid="test-key-ed25519"'
)
RFC_SIGNATURE = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = 1_800_000_000
PARAMETERS = SignatureParameters(NOW, NOW + 60, "n0nce", public_key_text(KEY.public_key()))
REQUEST = SignedRequest("PUT", "/v1/nodes/n1a", "", "application/json", "c1coordinator", b'{"node": {}}')


def test_the_vector_of_rfc_9421_for_ed25519_comes_out() -> None:
    key = load_pem_private_key(RFC_KEY, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    base = signature_base(RFC_COMPONENTS, RFC_PARAMETERS)
    assert base64.b64encode(key.sign(base)).decode() == RFC_SIGNATURE


def test_the_digest_of_rfc_9530_comes_out() -> None:
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_what_was_signed_is_accepted() -> None:
    assert verify_request(REQUEST, sign_request(REQUEST, PARAMETERS, KEY), now=NOW + 5) == PARAMETERS


@pytest.mark.parametrize(
    "seen",
    [
        replace(REQUEST, method="POST"),
        replace(REQUEST, path="/v1/nodes/n1b"),
        replace(REQUEST, query="force=1"),
        replace(REQUEST, content_type="text/plain"),
        replace(REQUEST, audience="c1another"),
        replace(REQUEST, body=b'{"node":  {}}'),
    ],
    ids=["method", "path", "query", "content-type", "audience", "body"],
)
def test_a_request_that_was_changed_or_meant_for_another_is_refused(seen: SignedRequest) -> None:
    headers = sign_request(REQUEST, PARAMETERS, KEY)
    for audience in (headers["duxnet-audience"], seen.audience):
        with pytest.raises(SignatureRefused) as refused:
            verify_request(seen, {**headers, "duxnet-audience": audience}, now=NOW)
        assert refused.value.code == "bad-signature"


def test_a_digest_recomputed_by_a_stranger_does_not_help() -> None:
    body = b'{"node": {"tags": {}}}'
    headers = {**sign_request(REQUEST, PARAMETERS, KEY), "content-digest": content_digest(body)}
    with pytest.raises(SignatureRefused, match="does not belong"):
        verify_request(replace(REQUEST, body=body), headers, now=NOW)


@pytest.mark.parametrize("missing", ["signature", "signature-input", "content-digest", "duxnet-audience"])
def test_a_request_without_one_of_the_headers_is_refused(missing: str) -> None:
    headers = sign_request(REQUEST, PARAMETERS, KEY)
    del headers[missing]
    with pytest.raises(SignatureRefused):
        verify_request(REQUEST, headers, now=NOW)


def test_a_signature_that_covers_less_or_names_an_algorithm_is_refused() -> None:
    text = PARAMETERS.to_text()
    for weaker in (
        text.replace('"content-digest" ', ""),
        text.replace('"@query"', '"@method"'),
        text.replace("(", '("date" '),
        text + ';alg="hmac-sha256"',
        text.replace(f";expires={NOW + 60}", ""),
    ):
        names = [name for name in COVERED if f'"{name}"' in weaker]
        values = {"@method": "PUT", "@path": REQUEST.path, "@query": "?", "content-type": REQUEST.content_type}
        values.update({"content-digest": content_digest(REQUEST.body), "duxnet-audience": REQUEST.audience})
        base = signature_base([(name, values[name]) for name in names], weaker)
        headers = {
            **sign_request(REQUEST, PARAMETERS, KEY),
            "signature-input": f"duxnet={weaker}",
            "signature": f"duxnet=:{base64.b64encode(KEY.sign(base)).decode()}:",
        }
        with pytest.raises(SignatureRefused):
            verify_request(REQUEST, headers, now=NOW)


def test_components_in_another_order_are_the_same_proof() -> None:
    names = tuple(reversed(COVERED))
    text = PARAMETERS.to_text().replace(" ".join(f'"{n}"' for n in COVERED), " ".join(f'"{n}"' for n in names))
    values = {"@method": "PUT", "@path": REQUEST.path, "@query": "?", "content-type": REQUEST.content_type}
    values.update({"content-digest": content_digest(REQUEST.body), "duxnet-audience": REQUEST.audience})
    signature = KEY.sign(signature_base([(name, values[name]) for name in names], text))
    headers = {
        **sign_request(REQUEST, PARAMETERS, KEY),
        "signature-input": f"duxnet={text}",
        "signature": f"duxnet=:{base64.b64encode(signature).decode()}:",
    }
    assert verify_request(REQUEST, headers, now=NOW) == PARAMETERS


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (NOW - 61, "signature-time"),
        (NOW - 3600, "signature-time"),
        (NOW + 61, "signature-time"),
        (NOW + 3600, "signature-time"),
        (NOW - 59, None),
        (NOW + 60, None),
    ],
)
def test_time_is_judged_at_its_borders(now: int, code: Optional[str]) -> None:
    headers = sign_request(REQUEST, PARAMETERS, KEY)
    if code is None:
        verify_request(REQUEST, headers, now=now)
        return
    with pytest.raises(SignatureRefused) as refused:
        verify_request(REQUEST, headers, now=now)
    assert refused.value.code == code


def test_a_nonce_of_the_verifier_stands_in_for_the_clock() -> None:
    headers = sign_request(REQUEST, PARAMETERS, KEY)
    assert verify_request(REQUEST, headers, now=NOW + 3600, challenge="n0nce") == PARAMETERS
    with pytest.raises(SignatureRefused):
        verify_request(REQUEST, headers, now=NOW + 3600, challenge="another")


def test_a_signature_may_not_live_longer_than_five_minutes() -> None:
    lasting = replace(PARAMETERS, expires=NOW + 301)
    with pytest.raises(SignatureRefused, match="at most 300 s"):
        verify_request(REQUEST, sign_request(REQUEST, lasting, KEY), now=NOW)


@pytest.mark.parametrize("keyid", ["A", "AAAA", "ü", "A" * 44, "A" * 256])
def test_a_key_that_is_none_is_refused(keyid: str) -> None:
    headers = sign_request(REQUEST, replace(PARAMETERS, keyid="A"), KEY)
    headers["signature-input"] = headers["signature-input"].replace('keyid="A"', f'keyid="{keyid}"')
    with pytest.raises(SignatureRefused):
        verify_request(REQUEST, headers, now=NOW)


def test_headers_of_nonsense_are_refused_and_never_an_exception_of_another_kind() -> None:
    good = sign_request(REQUEST, PARAMETERS, KEY)
    for name in good:
        for nonsense in ("", "duxnet=", "\x00", "é" * 90, "duxnet=:" + "A" * 86 + "==:", '("' * 400, "9" * 5000):
            with pytest.raises(SignatureRefused):
                verify_request(REQUEST, {**good, name: nonsense}, now=NOW)
    with pytest.raises(SignatureRefused):
        verify_request(replace(REQUEST, path="/é"), good, now=NOW)
