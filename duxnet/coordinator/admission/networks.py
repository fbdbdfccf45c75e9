"""Addresses: whether they can be reached from the internet, and which network they belong to."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Optional

from registry_core.errors import ValidationError
from registry_core.models.addresses import is_public
from registry_core.models.node import Node

__all__ = ["is_counted", "near", "network_of", "quota_keys", "refuse_unreachable"]

_CARRIER_NAT = ipaddress.ip_network("100.64.0.0/10")
_ALL_OF_IPV6 = 6


def refuse_unreachable(node: Node) -> None:
    """Raise ValidationError for an address that cannot be reached from the internet, on a public network."""
    for field, text in (("ip_address", node.ip_address), *(("addresses", each) for each in node.addresses)):
        if not is_public(text):
            raise ValidationError(field, text, "must be reachable from the internet, since this network is public")


def is_counted(address: Optional[str]) -> bool:
    """Do quotas count this peer? Loopback, RFC 1918 and 100.64/10 do not count: many honest nodes share them."""
    if not address:
        return False
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback or parsed.is_private or parsed.is_link_local:
        return False
    return not (parsed.version != _ALL_OF_IPV6 and parsed in _CARRIER_NAT)


def network_of(address: str, *, quota: bool = False) -> str:
    """The network of an address: its /24, or its /48 (for quotas /64) in IPv6."""
    parsed = ipaddress.ip_address(address)
    length = 24 if parsed.version != _ALL_OF_IPV6 else (64 if quota else 48)
    return str(ipaddress.ip_network(f"{address}/{length}", strict=False))


def near(peer: Optional[str]) -> str:
    """A text that is the same for all canonical addresses of a /24, or a /64 in IPv6; private ones too."""
    if peer is None:
        return ""
    return network_of(peer, quota=True) if ":" in peer else peer.rpartition(".")[0]


@lru_cache(maxsize=4096)
def quota_keys(peer: Optional[str]) -> tuple[str, ...]:
    """The keys that quotas count a peer by: its address and its network. Empty if quotas do not count it."""
    return (str(peer), network_of(str(peer), quota=True)) if is_counted(peer) else ()
