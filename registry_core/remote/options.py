"""How a remote registry is reached: addresses and what goes with them, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional, Union
from urllib.parse import urlsplit

from registry_core.errors import ValidationError
from registry_core.models.addresses import is_loopback

__all__ = ["RemoteOptions", "checked_addresses"]

_RULE = "must be http://HOST[:PORT] or https://HOST[:PORT], without user, query and fragment"


@dataclass(frozen=True)
class RemoteOptions:
    """What an operator may say about the way to a coordinator.

    `token` is a bearer token of an operator, reader or rater; `join_token` lets a node in. `coordinator_id` pins
    the coordinator (otherwise the first one met is kept). `ca_file` is added to the system's certificates. Plain
    http beyond this machine needs `allow_plaintext`. `interval_seconds` is how often the node reports: all
    time-outs and attempts of one call fit inside it.
    """

    token: str = ""
    join_token: str = ""
    coordinator_id: str = ""
    ca_file: Optional[str] = None
    allow_plaintext: bool = False
    interval_seconds: float = 15.0
    machine_hint: str = ""
    boot_id: str = ""

    def __repr__(self) -> str:  # tokens never end in a log
        return f"RemoteOptions(coordinator_id={self.coordinator_id!r}, interval_seconds={self.interval_seconds!r})"


def checked_addresses(addresses: Union[str, Sequence[str]], *, allow_plaintext: bool) -> tuple[str, ...]:
    """Base addresses without a trailing slash. Several, also in one text with commas, are ways to one coordinator."""
    every = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    checked = tuple(_checked(address.strip(), allow_plaintext) for address in every)
    if not checked:
        raise ValidationError("registry", addresses, "must name at least one address")
    return checked


def _checked(address: str, allow_plaintext: bool) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValidationError("registry", address, _RULE) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValidationError("registry", address, _RULE)
    if parts.username is not None or parts.query or parts.fragment or not address.isascii() or " " in address:
        raise ValidationError("registry", address, _RULE)
    if parts.scheme == "http" and not allow_plaintext and not is_loopback(parts.hostname):
        raise ValidationError(
            "registry",
            address,
            "must be https:// beyond this machine, unless allow_plaintext is set: tokens would be seen",
        )
    return address.rstrip("/")
