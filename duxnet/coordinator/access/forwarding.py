"""Finds the address of a client behind proxies, and decides which forwarding headers are trusted, ignored or refused.

Not here: the network that an address belongs to (`admission.networks`), the caller's role (`roles`).
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Optional

from duxnet.coordinator.errors import Refused
from duxnet.coordinator.settings import Network
from registry_core.errors import ValidationError, shown
from registry_core.models.addresses import canonical_address

__all__ = ["FORWARDING_HEADERS", "Forwarding"]

_log = logging.getLogger("duxnet.coordinator")

Headers = Sequence[tuple[bytes, bytes]]

_FOR = b"x-forwarded-for"
_FORWARDED = b"forwarded"
FORWARDING_HEADERS = frozenset(
    (
        _FOR,
        _FORWARDED,
        b"via",
        *(b"x-forwarded-" + part for part in (b"host", b"proto", b"port", b"server", b"prefix", b"by", b"ssl")),
        *(b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-original-forwarded-for"),
        *(b"true-client-ip", b"cf-connecting-ip", b"fastly-client-ip", b"x-envoy-external-address"),
    )
)
"""Headers that proxies add. The registry's own clients send none of them."""

_HOP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
_ELEMENT = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*')
_REMEDY_OF_HOP = "configure the proxy that is named in proxies to send one IP address for each hop"


class Forwarding:
    """Applies the setting `proxies`, the networks of trusted proxies."""

    def __init__(self, proxies: Iterable[Network]) -> None:
        self._proxies = tuple(proxies)
        self._is_logged = False
        self.is_proxy = lru_cache(maxsize=1024)(self._is_proxy)

    def may_speak_plainly(self, client: str) -> bool:
        """May this peer use http without TLS? Only loopback addresses and configured proxies may."""
        address = _canonical(client)
        return address is not None and (ipaddress.ip_address(address).is_loopback or self.is_proxy(client))

    def refuse_unnamed(self, client: Optional[str], server: Optional[str], headers: Headers) -> None:
        """Raise Refused for a request through a proxy on this machine that is not configured.

        Otherwise all clients of that proxy would count as this machine. Forwarding headers from other machines, such as
        a company's outgoing proxy, are ignored, and logged once. `client` is None for a Unix domain socket, which also
        means this machine.
        """
        if client is not None and self.is_proxy(client):
            return
        name = next((name for name, _ in headers if name in FORWARDING_HEADERS), None)
        if name is None:
            return
        here = client is None or client == server or _is_loopback(client)
        if here or not self._is_logged:
            _log_at = _log.warning if not self._is_logged else _log.debug
            _log_at(
                "a request from %s has the header %s, but proxies does not name that address: the %s",
                client or "a local socket",
                name.decode("ascii"),
                "request is refused" if here else "header is ignored",
            )
            self._is_logged = True
        if here:
            raise Refused("unnamed-proxy", f"header {name.decode('ascii')}: comes from {client or 'a local socket'}")

    def peer(self, client: Optional[str], headers: Headers) -> Optional[str]:
        """Returns the client's address: the connection's, or the one that configured proxies report.

        Hops are read from the right: while a hop is a configured proxy, the hop that it reports is trusted. Raises
        Refused if that hop is not an address: the client would count as the proxy, or belong to no network.
        """
        if client is None or not self.is_proxy(client):
            return _canonical(client)
        reported = [self._last_hop(client, hops) for hops in (_list_of(headers), _forwarded_of(headers)) if hops]
        if len(set(reported)) > 1:
            raise Refused(
                "malformed",
                "X-Forwarded-For and Forwarded name different clients: "
                "configure the proxy to remove the header that it does not set",
            )
        if not reported and any(name in FORWARDING_HEADERS for name, _ in headers):
            raise Refused("malformed", "the proxy does not name the client: set X-Forwarded-For or Forwarded there")
        return reported[0] if reported else _canonical(client)

    def _last_hop(self, client: str, hops: list[str]) -> str:
        address = client
        for hop in reversed(hops):
            if not self.is_proxy(address):
                break
            address = _address_of(hop)
        return address

    def _is_proxy(self, client: str) -> bool:
        address = _canonical(client)
        if address is None:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed.version == network.version and parsed in network for network in self._proxies)


def _list_of(headers: Headers) -> list[str]:
    """The hops in all X-Forwarded-For headers."""
    values = [value.decode("latin-1") for name, value in headers if name == _FOR]
    return [hop.strip() for hop in ",".join(values).split(",")] if values else []


def _forwarded_of(headers: Headers) -> list[str]:
    """The hops in Forwarded (RFC 7239); "" stands for an element without `for`. Raises Refused."""
    values = [value.decode("latin-1") for name, value in headers if name == _FORWARDED]
    hops = _elements(",".join(values)) if values else []
    return hops if any(hops) else []


def _elements(text: str) -> list[str]:
    hops, hop, place = [], "", 0
    while True:
        found = _ELEMENT.match(text, place)
        if found is None:
            raise Refused("malformed", f"Forwarded: {shown(text)} cannot be read (RFC 7239): {_REMEDY_OF_HOP}")
        if found[1].lower() == "for":
            hop = re.sub(r"\\(.)", r"\1", found[2][1:-1]) if found[2].startswith('"') else found[2]
        place = found.end()
        if text[place : place + 1] != ";":
            hops.append(hop)
            hop = ""
        if place == len(text):
            return hops
        if text[place] not in ";,":
            raise Refused("malformed", f"Forwarded: {shown(text)} cannot be read (RFC 7239): {_REMEDY_OF_HOP}")
        place += 1


def _address_of(hop: str) -> str:
    """The address in `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80` or `2001:db8::1`."""
    found = _HOP.fullmatch(hop)
    address = None if found is None else _canonical(found[1] or found[2] or found[3])
    if address is None:  # `unknown` and `_names` too (RFC 7239, 6.2 and 6.3)
        raise Refused("malformed", f"the proxy names {shown(hop)} as the client, not an address: {_REMEDY_OF_HOP}")
    return address


def _is_loopback(client: str) -> bool:
    address = _canonical(client)
    return address is not None and ipaddress.ip_address(address).is_loopback


def _canonical(text: Optional[str]) -> Optional[str]:
    try:
        return canonical_address("address", (text or "").partition("%")[0].strip())  # without an IPv6 zone
    except ValidationError:
        return None
