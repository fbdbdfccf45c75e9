"""The coordinator's signature on answers: the RFC's own examples, and everything that it must not hold for."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from registry_core.identity.answer_signature import ANSWER_HEADERS, SignedAnswer, sign_answer, verify_answer
from registry_core.identity.coordinator_id import coordinator_id_of_key
from registry_core.identity.keys import public_key_text, raw_public_key
from registry_core.identity.signatures import (
    SignatureParameters,
    SignatureRefused,
    SignedRequest,
    content_digest,
    sign_request,
    signature_base,
)

# RFC 9421 appendix B.1.3 (test-key-ecc-p256), and the two examples of §2.4: answers that cover parts of their request.
RFC_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----
"""
RFC_REQUEST_DIGEST = (
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
)
RFC_ANSWER_DIGEST = "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:"
RFC_ANSWER = [
    ("@status", "503"),
    ("content-digest", RFC_ANSWER_DIGEST),
    ("content-type", "application/json"),
    ("@authority;req", "example.com"),
    ("@method;req", "POST"),
    ("@path;req", "/foo"),
    ("content-digest;req", RFC_REQUEST_DIGEST),
]
RFC_PARAMETERS = (
    '("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req "content-digest";req)'
    ';created=1618884479;keyid="test-key-ecc-p256"'
)
RFC_SIGNATURE = "dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag=="
RFC_BASE = f"""\
"@status": 503
"content-digest": {RFC_ANSWER_DIGEST}
"content-type": application/json
"@authority";req: example.com
"@method";req: POST
"@path";req: /foo
"content-digest";req: {RFC_REQUEST_DIGEST}
"@signature-params": {RFC_PARAMETERS}"""

# B.2.4: an answer that covers nothing of its request.
RFC_PLAIN_ANSWER = [
    ("@status", "200"),
    ("content-type", "application/json"),
    (
        "content-digest",
        "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:",
    ),
    ("content-length", "23"),
]
RFC_PLAIN_PARAMETERS = (
    '("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"'
)
RFC_PLAIN_SIGNATURE = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="

NOW = 1_800_000_000
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
PUBLIC = public_key_text(KEY.public_key())
ID = coordinator_id_of_key(raw_public_key(KEY.public_key()))
NODE_KEY = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
REQUEST = SignedRequest("PUT", "/v1/nodes/n1a", "", "application/json", ID, b'{"node": {}}')
SENT = sign_request(
    REQUEST, SignatureParameters(NOW, NOW + 60, "n0nce", public_key_text(NODE_KEY.public_key())), NODE_KEY
)
ANSWER = SignedAnswer(200, "application/json", b'{"session": "s"}')
PROOF = sign_answer(ANSWER, REQUEST, SENT, KEY, ID, NOW)


@pytest.mark.parametrize(
    ("components", "parameters", "signature"),
    [
        (RFC_ANSWER, RFC_PARAMETERS, RFC_SIGNATURE),
        (RFC_PLAIN_ANSWER, RFC_PLAIN_PARAMETERS, RFC_PLAIN_SIGNATURE),
    ],
    ids=["2.4", "B.2.4"],
)
def test_the_signatures_of_rfc_9421_on_answers_hold(
    components: list[tuple[str, str]], parameters: str, signature: str
) -> None:
    key = load_pem_public_key(RFC_KEY)
    assert isinstance(key, EllipticCurvePublicKey)
    raw = base64.b64decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(der, signature_base(components, parameters), ECDSA(SHA256()))  # raises where it does not


def test_the_base_of_an_answer_is_written_as_in_rfc_9421() -> None:
    assert signature_base(RFC_ANSWER, RFC_PARAMETERS).decode() == RFC_BASE


def test_an_answer_is_covered_whole_and_so_is_its_request() -> None:
    assert tuple(PROOF) == ANSWER_HEADERS
    assert PROOF["content-digest"] == content_digest(ANSWER.body)
    assert PROOF["signature-input"] == (
        'duxnet=("@status" "content-digest" "content-type" "@method";req "@path";req "@query";req "content-digest";req '
        '"content-type";req "duxnet-audience";req "signature-input";req "signature";req)'
        f';created={NOW};keyid="{ID}";tag="duxnet-answer-v2"'
    )
    verify_answer(ANSWER, PROOF, REQUEST, SENT, PUBLIC, ID)


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER._replace(status=403),
        ANSWER._replace(content_type="application/problem+json"),
        ANSWER._replace(body=b'{"session": "t"}'),
    ],
    ids=["status", "content-type", "body"],
)
def test_an_answer_that_was_changed_is_refused(answer: SignedAnswer) -> None:
    for digest in (PROOF["content-digest"], content_digest(answer.body)):
        with pytest.raises(SignatureRefused):
            verify_answer(answer, {**PROOF, "content-digest": digest}, REQUEST, SENT, PUBLIC, ID)


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, method="POST"),
        replace(REQUEST, path="/v1/nodes/n1b"),
        replace(REQUEST, query="a=b"),
        replace(REQUEST, content_type="application/json; charset=utf-8"),
        replace(REQUEST, audience="c1" + "a" * 52),
        replace(REQUEST, body=b"{}"),
    ],
    ids=["method", "path", "query", "content-type", "audience", "body"],
)
def test_an_answer_to_another_request_is_refused(changed: SignedRequest) -> None:
    """Somebody on the way changes a request, its signature as it was, and passes the answer on to the node."""
    headers = {**SENT, "content-digest": content_digest(changed.body), "duxnet-audience": changed.audience}
    other = sign_answer(ANSWER, changed, headers, KEY, ID, NOW)
    verify_answer(ANSWER, other, changed, headers, PUBLIC, ID)
    with pytest.raises(SignatureRefused):
        verify_answer(ANSWER, other, REQUEST, SENT, PUBLIC, ID)


@pytest.mark.parametrize("header", ["signature", "signature-input"])
def test_an_answer_to_another_attempt_is_refused(header: str) -> None:
    again = sign_request(
        REQUEST, SignatureParameters(NOW, NOW + 60, "another", public_key_text(NODE_KEY.public_key())), NODE_KEY
    )
    for headers in (again, {**SENT, header: again[header]}):
        other = sign_answer(ANSWER, REQUEST, headers, KEY, ID, NOW)
        verify_answer(ANSWER, other, REQUEST, headers, PUBLIC, ID)
        with pytest.raises(SignatureRefused):
            verify_answer(ANSWER, other, REQUEST, SENT, PUBLIC, ID)


def test_an_answer_of_another_coordinator_is_refused() -> None:
    key = Ed25519PrivateKey.generate()
    other_id = coordinator_id_of_key(raw_public_key(key.public_key()))
    for proof in (
        sign_answer(ANSWER, REQUEST, SENT, key, other_id, NOW),
        sign_answer(ANSWER, REQUEST, SENT, key, ID, NOW),
    ):
        with pytest.raises(SignatureRefused):
            verify_answer(ANSWER, proof, REQUEST, SENT, PUBLIC, ID)
    with pytest.raises(SignatureRefused, match="is signed by c1"):
        verify_answer(ANSWER, PROOF, REQUEST, SENT, PUBLIC, other_id)


@pytest.mark.parametrize(
    "headers",
    [
        {name: value for name, value in SENT.items() if name != "signature"},
        {name: value for name, value in SENT.items() if name != "signature-input"},
        {**SENT, "content-digest": content_digest(b"{}")},
        {**SENT, "duxnet-audience": "c1" + "a" * 52},
        {**SENT, "signature": "é"},
        {},
    ],
    ids=["no-signature", "no-input", "digest", "audience", "letters", "none"],
)
def test_an_answer_to_a_request_that_is_not_as_its_headers_say_is_not_signed(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureRefused):
        sign_answer(ANSWER, REQUEST, headers, KEY, ID, NOW)


def test_a_proof_that_covers_less_or_says_more_is_refused() -> None:
    text = PROOF["signature-input"]
    for weaker in (
        text.replace('"@status" ', ""),
        text.replace(' "signature";req', ""),
        text.replace(";req", ""),
        text + ';alg="hmac-sha256"',
        text.replace("duxnet=", "sig1="),
        text + ", " + text,
        text.replace("duxnet-answer-v2", "duxnet-register-v1"),
        text.replace(f";created={NOW}", ""),
    ):
        parameters = weaker.partition("=")[2]
        names = [part.strip('"').replace('";', ";") for part in parameters[1 : parameters.index(")")].split(" ")]
        values = {"@status": "200", "content-digest": PROOF["content-digest"], "content-type": "application/json"}
        values.update({"@method": "PUT", "@path": REQUEST.path, "@query": "?", **SENT})
        base = signature_base([(name, values[name.partition(";")[0]]) for name in names], parameters)
        signature = f"duxnet=:{base64.b64encode(KEY.sign(base)).decode()}:"
        with pytest.raises(SignatureRefused):
            verify_answer(
                ANSWER, {**PROOF, "signature-input": weaker, "signature": signature}, REQUEST, SENT, PUBLIC, ID
            )


def test_headers_of_nonsense_are_refused_and_never_an_exception_of_another_kind() -> None:
    for name in ANSWER_HEADERS:
        for nonsense in (
            "",
            "duxnet=",
            "\x00",
            "é" * 90,
            "\ud800",
            "duxnet=:" + "A" * 86 + "==:",
            '("' * 400,
            "9" * 5000,
        ):
            with pytest.raises(SignatureRefused):
                verify_answer(ANSWER, {**PROOF, name: nonsense}, REQUEST, SENT, PUBLIC, ID)
        with pytest.raises(SignatureRefused):
            verify_answer(
                ANSWER, {key: value for key, value in PROOF.items() if key != name}, REQUEST, SENT, PUBLIC, ID
            )
    for key in ("", "A" * 44, "é"):
        with pytest.raises(SignatureRefused):
            verify_answer(ANSWER, PROOF, REQUEST, SENT, key, ID)
