"""The proxy that an operator named for the way to a coordinator. None is taken from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote, urlsplit

from registry_core.errors import ValidationError

__all__ = ["Proxy", "checked_proxy"]

_RULE = "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"


@dataclass(frozen=True)
class Proxy:
    """`url` is without user and password, and may be shown; `credentials` are those two."""

    url: str
    credentials: Optional[tuple[bytes, bytes]] = None

    def __repr__(self) -> str:  # a password never ends in a log
        return f"Proxy({self.url!r})"


def checked_proxy(field: str, text: str) -> Optional[Proxy]:
    """The proxy that `text` names; None for "". Raises ValidationError, which shows neither user nor password."""
    text = text.strip()
    if not text:
        return None
    shown = text.rpartition("@")[2]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValidationError(field, shown, _RULE) from None
    host = parts.hostname or ""
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or parts.scheme != "http" or not host or not port or parts.path.strip("/") or "?" in text:
        raise ValidationError(field, shown, _RULE)
    if "#" in text or "\\" in text or "%" in host:
        raise ValidationError(field, shown, _RULE)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if parts.username is None:
        return Proxy(url)
    return Proxy(url, (unquote(parts.username).encode(), unquote(parts.password or "").encode()))
