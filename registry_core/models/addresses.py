"""The one form in which an IP address is kept."""

from __future__ import annotations

import re

from registry_core.errors import ValidationError

WITHHELD_ADDRESS = "100::"
"""Stands in a `Node` whose address the asker was not shown: the discard prefix of RFC 6666, a black hole."""

_NO_HOST = "must be the address of one machine (not 0.0.0.0, :: or a multicast group)"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_IPV4 = re.compile(rf"(?:[1-9]|[1-9][0-9]|1[0-9][0-9]|2[01][0-9]|22[0-3])(?:\.{_OCTET}){{3}}")
"""1.0.0.0 to 223.255.255.255 as `ipaddress` prints it, which takes seven times as long to say so."""
_RULE = "must be an IPv4 or IPv6 address (no host name, no port, no zone)"


def canonical_address(field: str, value: object) -> str:
    """`value` as `ipaddress` prints it; IPv4-mapped IPv6 becomes IPv4. Refused are host names,
    zone ids, and what no machine can be reached at: 0.0.0.0, :: and multicast groups.
    """
    if type(value) is str and _PLAIN_IPV4.fullmatch(value):
        return value
    import ipaddress  # 4 ms that the probe's start would pay for

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


def is_loopback(host: str) -> bool:
    """Whether `host`, as it stands in a URL (without brackets), is loopback: what is sent there stays here."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
