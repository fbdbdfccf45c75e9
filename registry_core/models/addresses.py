"""IP addresses: their canonical form, and which of them other machines may connect to.

Which network an address counts for is decided in `duxnet.coordinator.admission.networks`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Union

from registry_core.errors import ValidationError

if TYPE_CHECKING:
    import ipaddress

    _Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

__all__ = ["WITHHELD_ADDRESS", "canonical_address", "is_destination", "is_loopback", "is_public"]

WITHHELD_ADDRESS = "100::"
"""The address of a `Node` whose real one is hidden from the caller: the discard prefix of RFC 6666."""

_NO_HOST = "must be the address of one machine (not 0.0.0.0, :: or a multicast group)"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"(?:[1-9]|[1-9][0-9]|1[0-9][0-9]|2[01][0-9]|22[0-3])(?:\.{_OCTET}){{3}}")
"""1.0.0.0 to 223.255.255.255 in the form of `ipaddress`, but seven times as fast."""
_METADATA = frozenset(("fd00:ec2::254", "100.100.100.200", "192.0.0.192"))
"""Addresses at which clouds serve a machine's secrets, besides the link-local 169.254.169.254."""
_LEADS_TO_IPV4 = frozenset(
    (
        bytes(12),  # ::a.b.c.d
        bytes(10) + b"\xff\xff",  # mapped
        bytes(8) + b"\xff\xff\0\0",  # translated (RFC 7915)
        bytes.fromhex("0064ff9b0000000000000000"),  # NAT64 (RFC 6052)
    )
)
"""The first 96 bits of IPv6 addresses whose last 32 are an IPv4 address."""
_ISATAP = (b"\0\0\x5e\xfe", b"\x02\0\x5e\xfe")
_RULE = "must be an IPv4 or IPv6 address (no host name, no port, no zone)"


def canonical_address(field: str, value: object) -> str:
    """`value` in the form of `ipaddress`; IPv4-mapped IPv6 becomes IPv4.

    Raises ValidationError for host names, zone ids, and addresses of no single machine: 0.0.0.0, :: and multicast.
    """
    if type(value) is str and _PLAIN_IPV4.fullmatch(value):
        return value
    import ipaddress  # here, since it would cost the probe's start 4 ms

    if not isinstance(value, str) or "%" in value or "/" in value or len(value) > 64:
        raise ValidationError(field, value, _RULE)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValidationError(field, value, _RULE) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if (mapped or address).is_unspecified or (mapped or address).is_multicast:
        raise ValidationError(field, value, _NO_HOST)
    return str(mapped or address)


def is_destination(text: str) -> bool:
    """Whether other machines may be directed to this address.

    They may not if it leads back to themselves (loopback, unspecified), depends on their link (link-local, where clouds
    serve secrets), is no single machine (multicast, broadcast) or is reserved; nor if it is an IPv6 address that
    contains such an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP).
    """
    if _PLAIN_IPV4.fullmatch(text) and not text.startswith(("127.", "169.254.")):
        return text not in _METADATA
    import ipaddress

    address = ipaddress.ip_address(text)
    return text not in _METADATA and all(_is_ordinary(each) for each in (address, *_inside(address)))


def is_public(text: str) -> bool:
    """Whether it is a destination that is reachable from the internet."""
    import ipaddress

    address = ipaddress.ip_address(text)
    return is_destination(text) and all(each.is_global for each in (address, *_inside(address)))


def _is_ordinary(address: _Address) -> bool:
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.version == 4:
        return not address.is_reserved and address.packed[0] != 0
    return not (address.is_site_local or address in _discard() or address in _local_nat64())


def _inside(address: _Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to."""
    import ipaddress

    if not isinstance(address, ipaddress.IPv6Address):
        return []
    last = ipaddress.IPv4Address(address.packed[12:])
    found = [address.sixtofour, *(address.teredo or ())]
    prefix, interface = address.packed[:12], address.packed[8:12]
    if prefix in _LEADS_TO_IPV4 or interface in _ISATAP:
        found.append(last)
    return [each for each in found if each is not None]


@lru_cache(maxsize=1)
def _discard() -> ipaddress.IPv6Network:
    import ipaddress

    return ipaddress.IPv6Network("100::/64")


@lru_cache(maxsize=1)
def _local_nat64() -> ipaddress.IPv6Network:
    """RFC 8215: each network chooses where in the address the IPv4 address is."""
    import ipaddress

    return ipaddress.IPv6Network("64:ff9b:1::/48")


def is_loopback(host: str) -> bool:
    """Whether `host`, as in a URL but without brackets, is loopback, so that data sent to it stays on this machine."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
