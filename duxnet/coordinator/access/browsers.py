"""Protection against web pages of other sites that send requests through a browser near the coordinator.

With DNS rebinding, a page of another site can send requests from this machine and read the answers; the Host header
then names that site. If a page only sends requests, the Origin header names its site. Here: the coordinator's own
names, and the origins that may send requests. Not here: requests that need no such check, since a token or signature
proves them (`front`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional

from duxnet.coordinator.errors import Refused
from registry_core.errors import shown

__all__ = ["HostNames", "names_in_certificate"]

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)(?:%[0-9A-Za-z._~%-]+)?\]|([0-9A-Za-z._-]+))(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(rb"(https?)://(.+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Host(NamedTuple):
    name: str
    is_address: bool
    port: Optional[int]


class HostNames:
    """The coordinator's host names: `localhost`, the given ones, and those in its certificate."""

    def __init__(self, given: Iterable[str]) -> None:
        self._given = frozenset(("localhost", *(name.lower() for name in given)))
        self.of_certificate: frozenset[str] = frozenset()

    def accepts(self, host: bytes) -> bool:
        """Is this value of Host an IP address or one of the names? Raises Refused if it is not a host."""
        found = _host_of(host)
        return found.is_address or self._knows(found.name)

    def refuse_origin(self, origin: bytes, host: bytes, scheme: str, *, is_forwarded: bool) -> None:
        """Raise Refused unless the request comes from the coordinator's own page.

        `is_forwarded`: a configured proxy forwarded it, so scheme and port may differ from those in the browser.
        """
        match = _ORIGIN.fullmatch(origin.lower())
        own = _host_of(host)
        if match is not None and _HOST.fullmatch(match[2]) and (own.is_address or self._knows(own.name)):
            page_scheme, page = match[1].decode("ascii"), _host_of(match[2])
            ports = {page.port or _DEFAULT_PORTS[page_scheme], own.port or _DEFAULT_PORTS[scheme]}
            if page.name == own.name and (is_forwarded or len(ports) == 1):
                return
        raise Refused("foreign-origin", f"Origin {shown(origin.decode('latin-1'))} is not a page of this coordinator")

    def _knows(self, name: str) -> bool:
        if name in self._given or name in self.of_certificate:
            return True
        any_of_parent = f"*.{name.partition('.')[2]}"
        return any_of_parent in self._given or any_of_parent in self.of_certificate


def _host_of(value: bytes) -> _Host:
    """Parses a Host header. Raises Refused."""
    found = _HOST.fullmatch(value)
    port = None if found is None or not found[3] else int(found[3])
    if found is None or (port is not None and port > 65535):
        raise Refused("malformed", f"Host {shown(value.decode('latin-1'))} is not a host name or IP address")
    text = (found[1] or found[2]).decode("ascii").lower()
    try:
        return _Host(str(ipaddress.ip_address(text)), True, port)
    except ValueError:
        return _Host(text[:-1] if text.endswith(".") else text, False, port)


def names_in_certificate(path: Path) -> frozenset[str]:
    """The DNS names of the first certificate in a PEM file, the server's own. Raises OSError, ValueError."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # clients no longer check names against the subject (RFC 6125)
        return frozenset()
    return frozenset(name.lower() for name in named.get_values_for_type(x509.DNSName))
