"""Removes from a recording what identifies its owner: serials, hardware addresses, host names, user names, addresses.

Within one recording equal secrets get equal masks, so that relations are kept. Masks have the form of what they
replace, so that a replay takes the same code path.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Callable

from agent.probe.parsers.addresses import Scope, scope_of

__all__ = ["masked"]

_MAC = re.compile(r"(?<![0-9A-Fa-f:.])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_UUID = re.compile(r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![0-9A-Fa-f:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|[0-9A-Fa-f]{1,4})[0-9A-Fa-f:.]*(?![0-9A-Fa-f:])")
# A line of /proc/net/if_inet6: 32 digits without colons, index, length of the prefix, scope, flags, interface
_IF_INET6 = re.compile(r"^(\||file /proc/net/if_inet6 = )([0-9a-f]{32})(?= +[0-9a-f]+(?: [0-9a-f]{2}){3} )")
_MACHINE_ID = re.compile(r"^(file \S*/machine-id = )[0-9a-f]{32}$", re.MULTILINE)
_NODENAME = re.compile(r'^(ask uname = \["[^"]*", ")([^"]*)(")', re.MULTILINE)
_SERIAL_FILE = re.compile(r"^(file \S*/(?:serial|serial_number|unique_id|product_uuid|address) = ).*$", re.MULTILINE)
_SERIAL_LINE = re.compile(r"^(\|unique_id )\d+$", re.MULTILINE)  # of AMD's kfd topology
_SERIAL_FIELD = re.compile(r'("(?:serial|serial_number|board_serial)": ")[^"]*(")')
_REGISTRY = re.compile(r"^option registry_address = (\S+)$", re.MULTILINE)
_HOME = re.compile(r"(/home/|/Users/|/run/user/|/media/)([^/\s\"]+)")
# The server of a network file system: `server:/export` or `//server/share` as the tenth word or later
_REMOTE = re.compile(
    r"^(\|.* - (?:nfs4?|ceph|fuse\.\S+|cifs|smb3|lustre|9p) )(//)?([^\s:/]+(?:@[^\s:/]+)?)(?=[:/])", re.MULTILINE
)


class _Masks:
    """One mask for each distinct secret of a kind."""

    def __init__(self, shape: Callable[[int], str]) -> None:
        self._shape = shape
        self._known: dict[str, str] = {}

    def __call__(self, secret: str) -> str:
        return self._known.setdefault(secret.lower(), self._shape(len(self._known) + 1))


def masked(text: str) -> str:
    """`text`, a recording, without what identifies its owner."""
    text = _without_names(text)
    uuids = _Masks(lambda n: f"00000000-0000-4000-8000-{n:012x}")
    macs = _Masks(lambda n: f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}")
    text = _UUID.sub(lambda match: uuids(match.group()), text)
    text = _MAC.sub(lambda match: macs(match.group()), text)
    return _without_addresses(text)


def _without_names(text: str) -> str:
    nodename = _NODENAME.search(text)
    text = _MACHINE_ID.sub(r"\g<1>0123456789abcdef0123456789abcdef", text)
    text = _NODENAME.sub(r"\g<1>masked-host\g<3>", text)
    if nodename and len(nodename.group(2)) >= 4:  # a shorter name occurs in too many other words
        text = re.sub(rf"(?<![\w-]){re.escape(nodename.group(2))}(?![\w-])", "masked-host", text)
    text = _SERIAL_FILE.sub(r"\g<1>masked", text)
    text = _SERIAL_LINE.sub(r"\g<1>0", text)
    text = _SERIAL_FIELD.sub(r"\g<1>masked\g<2>", text)
    text = _without_registry(text)
    servers = _Masks(lambda n: f"server{n}")
    text = _REMOTE.sub(lambda match: f"{match.group(1)}{match.group(2) or ''}{servers(match.group(3))}", text)
    users = _Masks(lambda n: f"user{n}")
    return _HOME.sub(lambda match: match.group(1) + users(match.group(2)), text)


def _without_registry(text: str) -> str:
    """Mask the registry's host name, if it was given as a name; an IP address is masked like any other."""
    named = _REGISTRY.search(text)
    if named is None or scope_of(named.group(1)) != Scope.NONE:
        return text
    return re.sub(rf"(?<![\w.-]){re.escape(named.group(1))}(?![\w-])", "registry.example", text)


def _without_addresses(text: str) -> str:
    """Mask addresses by those reserved for documentation, private ones by 10/8 and fd00::/8; loopback stays."""
    shapes: dict[tuple[bool, int], Callable[[int], str]] = {
        (False, Scope.PUBLIC): lambda n: f"198.51.100.{n % 254 + 1}",
        (False, Scope.PRIVATE): lambda n: f"10.0.{n // 254}.{n % 254 + 1}",
        (False, Scope.LINK): lambda n: f"169.254.1.{n % 254 + 1}",
        (True, Scope.PUBLIC): lambda n: f"2001:db8::{n:x}",
        (True, Scope.PRIVATE): lambda n: f"fd00::{n:x}",
        (True, Scope.LINK): lambda n: f"fe80::{n:x}",
    }
    masks = {kind: _Masks(shape) for kind, shape in shapes.items()}

    def mask(match: re.Match[str]) -> str:
        address = match.group()
        kind = (":" in address, scope_of(address))
        return masks[kind](address) if kind in masks and address not in ("192.0.2.1", "2001:db8::1") else address

    return "\n".join(_masked_line(line, mask) for line in text.split("\n"))


def _masked_line(line: str, mask: Callable[[re.Match[str]], str]) -> str:
    """Mask only lines that contain addresses, because PCI addresses and version numbers look similar."""
    kernels = _IF_INET6.match(line)
    if kernels:
        address = str(ipaddress.IPv6Address(bytes.fromhex(kernels[2])))
        hexadecimal = ipaddress.IPv6Address(_IPV6.sub(mask, address)).packed.hex()
        return f"{kernels[1]}{hexadecimal}{line[kernels.end(2) :]}"
    if line.startswith("|"):
        return _IPV4.sub(mask, line)
    if line.startswith(("ask interfaces", "ask route", "option registry_address")):
        return _IPV6.sub(mask, _IPV4.sub(mask, line))
    return line
