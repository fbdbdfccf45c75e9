"""What keeps web pages of others from speaking with a coordinator through a browser near it.

A page whose name is made to lead here (DNS rebinding) speaks as this machine, and reads the answers: its name shows in
Host. A page that only sends shows in Origin. Here: which names are a coordinator's own, and whose pages may send. Not
here: who may skip that since a token or signature proves more (`front`).
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
    """The names that a coordinator goes by: `localhost`, those that are given, and those in its certificate."""

    def __init__(self, given: Iterable[str]) -> None:
        self._given = frozenset(("localhost", *(name.lower() for name in given)))
        self.of_certificate: frozenset[str] = frozenset()

    def accepts(self, host: bytes) -> bool:
        """Whether this value of Host is an IP address or one of the names. Raises Refused for one that is no host."""
        found = _host_of(host)
        return found.is_address or self._knows(found.name)

    def refuse_origin(self, origin: bytes, host: bytes, scheme: str, *, is_forwarded: bool) -> None:
        """Raise Refused unless the page that sends this is the coordinator's own.

        `is_forwarded`: a named proxy passes the request on, so that neither scheme nor port are what the browser saw.
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
    """What a Host header says. Raises Refused."""
    found = _HOST.fullmatch(value)
    port = None if found is None or not found[3] else int(found[3])
    if found is None or (port is not None and port > 65535):
        raise Refused("malformed", f"Host {shown(value.decode('latin-1'))} is no host")
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
    except x509.ExtensionNotFound:  # nobody verifies a name against the subject any more (RFC 6125)
        return frozenset()
    return frozenset(name.lower() for name in named.get_values_for_type(x509.DNSName))
