"""The scope of an address, and its state in the kernel."""

from __future__ import annotations

import ipaddress
from typing import Optional

__all__ = ["DEPRECATED", "NOT_READY", "TEMPORARY", "Scope", "ipv6_states", "scope_of"]

# Flags of an IPv6 address (include/uapi/linux/if_addr.h)
TEMPORARY = 0x01  # from the privacy extensions: replaced within a day
DEPRECATED = 0x20  # about to expire: new connections must not use it
NOT_READY = 0x08 | 0x40  # in use elsewhere, or still being checked for that

# 10/8, 172.16/12 and 192.168/16 are private (RFC 1918), 100.64/10 is shared by carriers (RFC 6598), fc00::/7 is
# private (RFC 4193). `is_private` of ipaddress also includes the blocks for documentation, by which recordings mask
# public addresses.
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
# "This network" and the reserved class E; IPv6 forms of IPv4 addresses and others in ::/16
_NO_HOST = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/8", "240.0.0.0/4", "::/16"))


class Scope:
    """A smaller value reaches further. `NONE`: not an address, or one that no machine can have."""

    PUBLIC = 0
    PRIVATE = 1
    LINK = 2
    LOOPBACK = 3
    NONE = 4


def scope_of(text: str) -> int:
    """The `Scope` of an IPv4 or IPv6 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return Scope.NONE
    if address.is_loopback:
        return Scope.LOOPBACK
    if address.is_multicast or any(address in network for network in _NO_HOST):
        return Scope.NONE
    if address.is_link_local:
        return Scope.LINK
    return Scope.PRIVATE if any(address in network for network in _PRIVATE) else Scope.PUBLIC


def ipv6_states(text: Optional[str]) -> dict[tuple[str, str], int]:
    """(interface, address) → the kernel's flags, from /proc/net/if_inet6: address, index, prefix, scope, flags, name.

    The address has the form of `ipaddress`.
    """
    states = {}
    for line in (text or "").splitlines():
        words = line.split()
        try:
            address, flags = ipaddress.IPv6Address(bytes.fromhex(words[0])), int(words[4], 16)
            states[words[5], str(address)] = flags
        except (IndexError, ValueError):
            continue
    return states
