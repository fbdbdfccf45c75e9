"""How far an address reaches, told without `ipaddress`, whose import would cost the probe's start 4 ms."""

from __future__ import annotations

from typing import Optional

__all__ = ["Scope", "scope_of"]


class Scope:
    """Smaller reaches further. `NONE` is text that is no address, or one that no machine can have for itself."""

    PUBLIC = 0
    PRIVATE = 1
    LINK = 2
    LOOPBACK = 3
    NONE = 4


def scope_of(text: str) -> int:
    """The `Scope` of an IPv4 or IPv6 address."""
    return _scope6(text) if ":" in text else _scope4(text)


def _scope4(text: str) -> int:
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        return Scope.NONE
    a, b, c, d = (int(part) for part in parts)
    if max(a, b, c, d) > 255 or a == 0 or a >= 224:
        return Scope.NONE
    if a == 127:
        return Scope.LOOPBACK
    if (a, b) == (169, 254):
        return Scope.LINK
    # 100.64/10 is shared by carriers (RFC 6598), 10/8, 172.16/12 and 192.168/16 are private (RFC 1918)
    private = a == 10 or (a, b) == (192, 168) or (a == 172 and 16 <= b < 32) or (a == 100 and 64 <= b < 128)
    return Scope.PRIVATE if private else Scope.PUBLIC


def _scope6(text: str) -> int:
    if text == "::1":
        return Scope.LOOPBACK
    first = _first_group(text)
    if first is None or first == 0 or first >= 0xFF00:
        return Scope.NONE
    if 0xFE80 <= first < 0xFEC0:
        return Scope.LINK
    return Scope.PRIVATE if 0xFC00 <= first < 0xFE00 else Scope.PUBLIC


def _first_group(text: str) -> Optional[int]:
    group = text.partition("%")[0].partition(":")[0]
    try:
        return int(group, 16) if 0 < len(group) <= 4 else 0
    except ValueError:
        return None
