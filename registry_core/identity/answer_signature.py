"""The coordinator's signature on its answers (RFC 9421), which binds each answer to its request (§2.4).

There is one algorithm (Ed25519), one label and one list of covered components. The list includes everything that the
request's signature covers, and that signature with its parameters: an answer to a request that was changed on its way,
or signed again by another key, is not valid for the request that the node sent. So a node needs no clock to know that
an answer is fresh: each request has a new nonce. `signatures` signs requests.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry_core.errors import ValidationError
from registry_core.identity.signatures import (
    AUDIENCE_HEADER,
    LABEL,
    SIGNATURE,
    SignedRequest,
    bad_signature,
    component_identifier,
    content_digest,
    signature_base,
)
from registry_core.models.ids import key_from_text

__all__ = [
    "ANSWER_HEADERS",
    "ANSWER_TAG",
    "OLD_SEAL_HEADER",
    "SignedAnswer",
    "old_seal",
    "sign_answer",
    "verify_answer",
]

ANSWER_TAG = "duxnet-answer-v2"
ANSWER_HEADERS = ("content-digest", "signature-input", "signature")
"""The headers that `sign_answer` adds to an answer."""
COVERED = (
    "@status",
    "content-digest",
    "content-type",
    "@method;req",
    "@path;req",
    "@query;req",
    "content-digest;req",
    "content-type;req",
    f"{AUDIENCE_HEADER};req",
    "signature-input;req",
    "signature;req",
)
OLD_SEAL_HEADER = "duxnet-signature"

_COMPONENTS = " ".join(component_identifier(name) for name in COVERED)
_INPUT = re.compile(
    rf"{LABEL}=(\({re.escape(_COMPONENTS)}\);created=\d{{1,12}};keyid=\"(c1[a-z2-7]{{52}})\";tag=\"{ANSWER_TAG}\")"
)


class SignedAnswer(NamedTuple):
    """The parts of the answer itself that a signature covers."""

    status: int
    content_type: str
    body: bytes


def sign_answer(
    answer: SignedAnswer,
    request: SignedRequest,
    request_headers: Mapping[str, str],
    key: Ed25519PrivateKey,
    coordinator_id: str,
    created: int,
) -> dict[str, str]:
    """The headers to add to the answer to a signed request. `created` is Unix seconds.

    `request_headers` (lower-case names) are those of the request. Raises SignatureRefused for a request that is not
    signed, or whose headers do not match its body and audience: the answer would be valid for another request.
    """
    digest = content_digest(answer.body)
    parameters = f'({_COMPONENTS});created={created};keyid="{coordinator_id}";tag="{ANSWER_TAG}"'
    signature = base64.b64encode(key.sign(_base(answer, digest, request, request_headers, parameters)))
    return {
        "content-digest": digest,
        "signature-input": f"{LABEL}={parameters}",
        "signature": f"{LABEL}=:{signature.decode('ascii')}:",
    }


def verify_answer(
    answer: SignedAnswer,
    answer_headers: Mapping[str, str],
    request: SignedRequest,
    request_headers: Mapping[str, str],
    public_key: str,
    coordinator_id: str,
) -> None:
    """Raises SignatureRefused unless the coordinator with this key (base64) and id gave this answer to the request.

    `request_headers` are those that `sign_request` made; all names are lower case.
    """
    digest = content_digest(answer.body)
    if answer_headers.get("content-digest") != digest:
        raise bad_signature("its content-digest does not match its body")
    found = _INPUT.fullmatch(answer_headers.get("signature-input", ""))
    signature = SIGNATURE.fullmatch(answer_headers.get("signature", ""))
    if found is None or signature is None:
        raise bad_signature("it has no signature in the form that this version supports")
    if found[2] != coordinator_id:
        raise bad_signature(f"it is signed by {found[2]}")
    try:
        key = Ed25519PublicKey.from_public_bytes(key_from_text("public_key", public_key))
        key.verify(base64.b64decode(signature[1]), _base(answer, digest, request, request_headers, found[1]))
    except (InvalidSignature, ValidationError, binascii.Error):
        raise bad_signature("the signature does not belong to this answer, this request and this key") from None


def old_seal(request_signature: str, body: bytes, key: Ed25519PrivateKey) -> str:
    """The value of OLD_SEAL_HEADER, which nodes of protocol 1 check instead of the signature.

    Remove it with protocol 3.
    """
    request = hashlib.sha256(request_signature.encode("utf-8")).digest()
    answer = hashlib.sha256(b"\x00" + request + hashlib.sha256(body).digest()).digest()
    return base64.b64encode(key.sign(b"duxnet-answers-v2\x00" + answer)).decode("ascii")


def _base(
    answer: SignedAnswer,
    digest: str,
    request: SignedRequest,
    request_headers: Mapping[str, str],
    parameters: str,
) -> bytes:
    own_digest = content_digest(request.body)
    if request_headers.get("content-digest") != own_digest or request_headers.get(AUDIENCE_HEADER) != request.audience:
        raise bad_signature("the request does not match its headers")
    if "signature" not in request_headers or "signature-input" not in request_headers:
        raise bad_signature("the request is not signed")
    values = (
        str(answer.status),
        digest,
        answer.content_type,
        request.method,
        request.path,
        f"?{request.query}",
        own_digest,
        request.content_type,
        request.audience,
        request_headers["signature-input"],
        request_headers["signature"],
    )
    try:
        return signature_base(list(zip(COVERED, values)), parameters)
    except UnicodeEncodeError:
        raise bad_signature("the request has characters that cannot be signed") from None
