"""Security headers of every answer: what browsers may run, frame and pass on. See also `access.browsers`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

__all__ = ["API_SECURITY", "header_lines", "page_security"]

Headers = Sequence[tuple[bytes, bytes]]

_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
API_SECURITY: Headers = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    *_EVERYWHERE,
)


def page_security(page: bytes) -> Headers:
    """Headers for a page that runs only its own inline scripts and styles and fetches only from its own server."""
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hashes(page, b'script')}; style-src {_hashes(page, b'style')}"
    )
    return ((b"content-security-policy", policy.encode("ascii")), *_EVERYWHERE)


def header_lines(headers: Headers) -> bytes:
    """The headers as HTTP/1.1 bytes."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _hashes(page: bytes, element: bytes) -> str:
    texts = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode("ascii") for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
