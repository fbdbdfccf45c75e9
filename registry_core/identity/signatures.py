"""HTTP message signatures (RFC 9421) with a content digest (RFC 9530), in the one form that the registry accepts.

One algorithm (Ed25519), one label, one set of covered components: anything else is refused, so that an attacker cannot
negotiate a weaker form. `audience` is the id of the coordinator that the request is for: another coordinator that
receives the request cannot replay it. Who may register is decided in `duxnet.coordinator`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry_core.errors import RegistryError

__all__ = [
    "AUDIENCE_HEADER",
    "COVERED",
    "LABEL",
    "SIGNATURE",
    "ClaimedSignature",
    "REGISTER_TAG",
    "SignatureParameters",
    "SignatureRefused",
    "SignedRequest",
    "bad_signature",
    "claimed_signature",
    "component_identifier",
    "content_digest",
    "sign_request",
    "signature_base",
    "verify_request",
]

AUDIENCE_HEADER = "duxnet-audience"
REGISTER_TAG = "duxnet-register-v1"
COVERED = ("@method", "@path", "@query", "content-digest", "content-type", AUDIENCE_HEADER)
MAX_LIFETIME_SECONDS = 300
MAX_CLOCK_DIFFERENCE_SECONDS = 60

LABEL = "duxnet"
_TEXT = r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,256})"'  # a structured-field string without escapes
_INPUT = re.compile(
    rf"{LABEL}=(\(((?:\"[a-z0-9@-]+\" ?)+)\)"
    rf";created=(\d{{1,12}});expires=(\d{{1,12}});nonce={_TEXT};keyid={_TEXT};tag={_TEXT})"
)
_OWN_COVERED = " ".join(f'"{name}"' for name in COVERED)
SIGNATURE = re.compile(rf"{LABEL}=:([A-Za-z0-9+/]{{86}}==):")


class SignatureRefused(RegistryError):  # noqa: N818 - named for the event
    """The signature is not valid. `code` is the problem type: `bad-signature` or `signature-time`.

    `signature-time` means that the signer's clock may be wrong, and that it may sign a nonce of the verifier instead.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class SignatureParameters:
    """`created` and `expires` are Unix seconds; `keyid` is the raw public key in base64."""

    created: int
    expires: int
    nonce: str
    keyid: str
    tag: str = REGISTER_TAG

    def check_time(self, now: float) -> None:
        """Raises SignatureRefused unless the request was signed about `now` (Unix seconds)."""
        if not 0 < self.expires - self.created <= MAX_LIFETIME_SECONDS:
            raise bad_signature(f"expires must be after created, by at most {MAX_LIFETIME_SECONDS} s")
        if self.created > now + MAX_CLOCK_DIFFERENCE_SECONDS:
            raise SignatureRefused("signature-time", "the request was signed in the future: the clocks differ")
        if now > self.expires or self.created < now - MAX_LIFETIME_SECONDS:
            raise SignatureRefused("signature-time", "the signature has expired, or the clocks differ")

    def to_text(self) -> str:
        """The covered components and parameters, as in `Signature-Input` and in the signature base."""
        names = " ".join(f'"{name}"' for name in COVERED)
        return (
            f"({names});created={self.created};expires={self.expires}"
            f';nonce="{self.nonce}";keyid="{self.keyid}";tag="{self.tag}"'
        )


class ClaimedSignature(NamedTuple):
    """The unverified content of `Signature-Input`: parameters, covered components in order, and the signed text."""

    parameters: SignatureParameters
    covered: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class SignedRequest:
    """The parts of a request that a signature covers. `query` has no question mark."""

    method: str
    path: str
    query: str
    content_type: str
    audience: str
    body: bytes


def content_digest(body: bytes) -> str:
    """The value of the `Content-Digest` header (RFC 9530) with SHA-256."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


@lru_cache(maxsize=64)
def component_identifier(name: str) -> str:
    """A component's name in a signature (RFC 9421 §2): `"@path"`, and `"@path";req` for `@path;req`."""
    field, semicolon, parameters = name.partition(";")
    return f'"{field}"{semicolon}{parameters}'


def signature_base(components: Sequence[tuple[str, str]], parameters: str) -> bytes:
    """The bytes that are signed (RFC 9421 §2.5): one line per component, then the parameters.

    In an answer, `;req` after a component's name means that its value is that of the request (§2.4).
    """
    lines = [f"{component_identifier(name)}: {value}" for name, value in components]
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines).encode("ascii")


def sign_request(request: SignedRequest, parameters: SignatureParameters, key: Ed25519PrivateKey) -> dict[str, str]:
    """The signature headers to add to the request."""
    digest = content_digest(request.body)
    text = parameters.to_text()
    signature = base64.b64encode(key.sign(_base(request, digest, COVERED, text))).decode("ascii")
    return {
        "content-digest": digest,
        AUDIENCE_HEADER: request.audience,
        "signature-input": f"{LABEL}={text}",
        "signature": f"{LABEL}=:{signature}:",
    }


def verify_request(
    request: SignedRequest,
    headers: Mapping[str, str],
    *,
    now: float,
    challenge: Optional[str] = None,
    claimed: Optional[ClaimedSignature] = None,
) -> SignatureParameters:
    """The parameters of a request whose signature is valid for the key it names. Raises SignatureRefused.

    `headers` has lower-case names; `now` is Unix seconds. If the request has the nonce `challenge`, which the verifier
    knows to be fresh, the signer's clock is not checked. The caller checks that the key belongs to the node. The time
    is checked before the signature, which costs a hundred times as much. `claimed` is the result of
    `claimed_signature` for these headers, if the caller has it.
    """
    parameters, covered, text = claimed or claimed_signature(headers)
    if parameters.tag != REGISTER_TAG:
        raise bad_signature(f"the tag of the signature must be {REGISTER_TAG}")
    if headers.get(AUDIENCE_HEADER) != request.audience:
        raise bad_signature(f"{AUDIENCE_HEADER} must be the identity of this coordinator, {request.audience}")
    digest = content_digest(request.body)
    if not hmac.compare_digest(headers.get("content-digest", "").encode("utf-8"), digest.encode("ascii")):
        raise bad_signature("content-digest must be the SHA-256 of the body, as sha-256=:…:")
    if challenge is None or parameters.nonce != challenge:
        parameters.check_time(now)
    try:
        _public_key(parameters.keyid).verify(
            _signature(headers.get("signature", "")), _base(request, digest, covered, text)
        )
    except (InvalidSignature, UnicodeEncodeError):
        raise bad_signature("the signature does not belong to this request and key") from None
    return parameters


def claimed_signature(headers: Mapping[str, str]) -> ClaimedSignature:
    """The unverified signature in the headers (lower-case names). Raises SignatureRefused."""
    header = headers.get("signature-input", "")
    found = _INPUT.fullmatch(header) if len(header) <= 1024 else None
    if found is None:
        raise bad_signature(f"Signature-Input must have the form {LABEL}=(…);created=…;expires=…;nonce=…;keyid=…;tag=…")
    covered = COVERED if found[2] == _OWN_COVERED else tuple(name.strip('"') for name in found[2].split())
    if covered is not COVERED and sorted(covered) != sorted(COVERED):
        raise bad_signature(f"the signature must cover exactly {', '.join(COVERED)}")
    parameters = SignatureParameters(int(found[3]), int(found[4]), found[5], found[6], found[7])
    return ClaimedSignature(parameters, covered, found[1])


def _base(request: SignedRequest, digest: str, covered: Sequence[str], text: str) -> bytes:
    values = {
        "@method": request.method,
        "@path": request.path,
        "@query": f"?{request.query}",
        "content-digest": digest,
        "content-type": request.content_type,
        AUDIENCE_HEADER: request.audience,
    }
    return signature_base([(name, values[name]) for name in covered], text)


def _signature(header: str) -> bytes:
    found = SIGNATURE.fullmatch(header)
    if found is None:
        raise bad_signature(f"Signature must be {LABEL}=:…: with 64 bytes in base64")
    return base64.b64decode(found[1])


def _public_key(keyid: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(keyid, validate=True))
    except (ValueError, binascii.Error):
        raise bad_signature("keyid must be a raw Ed25519 public key in base64") from None


def bad_signature(reason: str) -> SignatureRefused:
    """The error for an invalid signature, with the reason."""
    return SignatureRefused("bad-signature", reason)
