"""The options for reaching a remote registry: addresses, proxy, tokens. They are checked before anything is sent.

The environment is not searched for a proxy: only the configured one is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Union
from urllib.parse import unquote, urlsplit

from registry_core.errors import ValidationError
from registry_core.identity.tokens import checked_token
from registry_core.models.addresses import is_loopback

__all__ = ["Proxy", "RemoteOptions", "checked_addresses", "checked_proxy", "goes_through_proxy"]

_PROXY_RULE = "must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
_RULE = "must be http://HOST[:PORT] or https://HOST[:PORT], without user, query and fragment"


@dataclass(frozen=True)
class RemoteOptions:
    """The settings of a connection to a coordinator.

    `token` is a bearer token of an operator, reader or rater; `join_token` admits a node. `coordinator_id` pins the
    coordinator (otherwise the first one is pinned). `ca_file` is added to the system's certificates. Plain http to
    another machine needs `allow_plaintext`. `proxy` is http://[USER:PASSWORD@]HOST:PORT, for addresses of other
    machines; none is taken from the environment. `interval_seconds` is how often the node reports: all time-outs and
    attempts of one call fit inside it. Raises ValidationError, which shows no token and no password.
    """

    token: str = ""
    join_token: str = ""
    coordinator_id: str = ""
    ca_file: Optional[str] = None
    allow_plaintext: bool = False
    interval_seconds: float = 15.0
    machine_hint: str = ""
    boot_id: str = ""
    proxy: str = ""

    def __post_init__(self) -> None:
        for name in ("token", "join_token"):
            object.__setattr__(self, name, checked_token(name, getattr(self, name)))
        checked_proxy("proxy", self.proxy)

    def __repr__(self) -> str:  # keeps tokens out of logs
        return f"RemoteOptions(coordinator_id={self.coordinator_id!r}, interval_seconds={self.interval_seconds!r})"


def checked_addresses(
    addresses: Union[str, Sequence[str]], options: RemoteOptions, *, has_secrets: bool
) -> tuple[str, ...]:
    """Base addresses without a trailing slash. Several, also in one text with commas, are for the same coordinator.

    `has_secrets`: requests carry tokens or sessions, so they may not go through a proxy in clear.
    """
    every = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    checked = tuple(_checked(address.strip(), options.allow_plaintext) for address in every)
    if not checked:
        raise ValidationError("registry", addresses, "must name at least one address")
    for address in checked:
        if has_secrets and address.startswith("http:") and goes_through_proxy(address, options):
            raise ValidationError(
                "registry", address, "must be https:// when a proxy is set: the proxy could read the tokens"
            )
    return checked


def goes_through_proxy(address: str, options: RemoteOptions) -> bool:
    """Whether requests to `address` go through the proxy; those to this machine never do."""
    return bool(options.proxy.strip()) and not is_loopback(urlsplit(address).hostname or "")


def _is_odd(address: str) -> bool:
    return not (address.isascii() and address.isprintable()) or " " in address


def _checked(address: str, allow_plaintext: bool) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValidationError("registry", address, _RULE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValidationError("registry", address, _RULE)
    if parts.username is not None or parts.query or parts.fragment or _is_odd(address):
        raise ValidationError("registry", address.rpartition("@")[2], _RULE)
    if parts.scheme == "http" and not allow_plaintext and not is_loopback(parts.hostname):
        raise ValidationError(
            "registry",
            address,
            "must be https:// for another machine, unless allow_plaintext is set: others could read the tokens",
        )
    return address.rstrip("/")


@dataclass(frozen=True)
class Proxy:
    """`url` has no user and password, and may be shown; `credentials` are those two."""

    url: str
    credentials: Optional[tuple[bytes, bytes]] = None

    def __repr__(self) -> str:  # keeps the password out of logs
        return f"Proxy({self.url!r})"


def checked_proxy(field: str, text: str) -> Optional[Proxy]:
    """The proxy in `text`; None for "". Raises ValidationError, which shows neither user nor password."""
    text = text.strip()
    if not text:
        return None
    shown = text.rpartition("@")[2]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValidationError(field, shown, _PROXY_RULE) from None
    host = parts.hostname or ""
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or parts.scheme != "http" or not host or not port or parts.path.strip("/") or "?" in text:
        raise ValidationError(field, shown, _PROXY_RULE)
    if "#" in text or "\\" in text or "%" in host:
        raise ValidationError(field, shown, _PROXY_RULE)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if parts.username is None:
        return Proxy(url)
    return Proxy(url, (unquote(parts.username).encode(), unquote(parts.password or "").encode()))
