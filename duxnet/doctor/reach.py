"""Checks that the registry can be reached: name, connection, TLS, an answer, and the difference of the two clocks.

Each step is made by itself so that each failure has its own text. The request itself uses the agent's client.
"""

from __future__ import annotations

import http
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional, Union
from urllib.parse import urlsplit

from duxnet.doctor.findings import NOTE, OK, PROBLEM, Finding
from registry_core.errors import RegistryError, UnreachableError, reason_of
from registry_core.models.times import time_from_text
from registry_core.remote import RemoteOptions
from registry_core.remote.certificates import client_context
from registry_core.remote.options import goes_through_proxy
from registry_core.remote.sender import Sender

__all__ = ["AllowList", "check_address", "clock_finding"]

TIMEOUT_SECONDS = 5.0
DEFAULT_PORTS = {"http": 80, "https": 443}
"""The ports of the agent's client for addresses without one."""
CERTIFICATE_DAYS_LEFT = 14
LONGEST_ANSWER_BYTES = 16_384
# A smaller difference does no harm.
CLOCK_NOTE_SECONDS = 5.0
# Beyond this, signed requests are refused and the agent requests a nonce, which costs a round trip each time.
CLOCK_PROBLEM_SECONDS = 60.0


@dataclass(frozen=True)
class AllowList:
    """The addresses that the unit may reach: all of them, unless `denies_others` is set."""

    denies_others: bool = False
    networks: tuple[Union[ipaddress.IPv4Network, ipaddress.IPv6Network], ...] = ()

    @classmethod
    def from_properties(cls, deny: str, allow: str) -> AllowList:
        """Read IPAddressDeny= and IPAddressAllow= as `systemctl show` prints them."""
        networks = [ipaddress.ip_network(word, strict=False) for word in allow.split()]
        return cls("0.0.0.0/0" in deny.split() or "::/0" in deny.split(), tuple(networks))

    def allows(self, address: str) -> bool:
        """Whether the unit may send packets to `address`."""
        given = ipaddress.ip_address(address.partition("%")[0])
        return not self.denies_others or any(given in network for network in self.networks)


def check_address(url: str, ca_file: Optional[str], allow_list: AllowList, proxy: str = "") -> Iterator[Finding]:
    """Check each step of a request to the coordinator at `url`. Behind a proxy only the whole request is checked."""
    options = RemoteOptions(ca_file=ca_file, proxy=proxy, interval_seconds=TIMEOUT_SECONDS)
    if goes_through_proxy(url, options):
        yield from _answer(url, url, options)
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        words = f"{host}: the name cannot be resolved: {reason_of(error)}"
        yield Finding("registry", PROBLEM, words, "correct registry.target, or the DNS servers in /etc/resolv.conf")
        return
    addresses = [str(entry[4][0]) for entry in found]
    yield from _closed(host, addresses, allow_list)
    try:
        yield from _connected(parts.scheme == "https", host, port, ca_file)
    except ssl.SSLCertVerificationError as error:
        yield Finding("TLS", PROBLEM, f"{url}: {error.verify_message}", _certificate_remedy(error, host))
        return
    except ssl.SSLError as error:
        words = f"{url}: {error.reason or error}"
        yield Finding("TLS", PROBLEM, words, "the server is not speaking TLS; try an address with http://")
        return
    except RegistryError as error:  # the CA file cannot be read
        yield Finding("TLS", PROBLEM, str(error), "correct registry.ca_file")
        return
    except OSError as error:
        yield _no_answer(url, reason_of(error), port)
        return
    yield from _answer(
        url, f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}", options
    )


def clock_finding(difference_seconds: float, where: str) -> Finding:
    """The finding for a difference between two clocks; positive if the clock of this machine is ahead."""
    side = "ahead of" if difference_seconds > 0 else "behind"
    size = abs(difference_seconds)
    details = {"offset_seconds": round(difference_seconds, 3)}
    if size <= CLOCK_NOTE_SECONDS:
        return Finding("clock", OK, f"within {CLOCK_NOTE_SECONDS:g} s of {where}", details=details)
    state = PROBLEM if size > CLOCK_PROBLEM_SECONDS else NOTE
    remedy = (
        "set one of the two clocks: `sudo timedatectl set-ntp true` (needs the package systemd-timesyncd or chrony)"
    )
    return Finding("clock", state, f"this machine's clock is {size:.0f} s {side} that of {where}", remedy, details)


def _closed(host: str, addresses: Sequence[str], allow_list: AllowList) -> Iterator[Finding]:
    closed = sorted({address for address in addresses if not allow_list.allows(address)})
    if closed:
        flags = " ".join(f"--allow {address}" for address in closed)
        yield Finding(
            "registry",
            PROBLEM,
            f"the unit's allow-list does not contain {host} ({', '.join(closed)})",
            f"sudo duxnet service install {flags} (add every other address that it needs, such as DNS servers)",
        )


def _no_answer(url: str, reason: str, port: Optional[int]) -> Finding:
    where = f" and that firewalls let port {port} through" if port is not None else ""
    remedy = f"check that the coordinator runs there{where}"
    return Finding("registry", PROBLEM, f"{url} does not answer: {reason}", remedy)


def _connected(by_tls: bool, host: str, port: int, ca_file: Optional[str]) -> Iterator[Finding]:
    """Connect without a request, and check the certificate."""
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as plain:
        if by_tls:
            with client_context(ca_file).wrap_socket(plain, server_hostname=host) as stream:
                yield _certificate(stream)


def _answer(url: str, where: str, options: RemoteOptions) -> Iterator[Finding]:
    """Send a request with the agent's client, whose limits are those of the agent."""
    try:
        sender = Sender((where,), options)
        try:
            sent = time.time()
            answer = sender.send("GET", "/healthz", largest_bytes=LONGEST_ANSWER_BYTES)
            arrived = time.time()
        finally:
            sender.close()
    except UnreachableError as error:
        yield _no_answer(url, error.reason, urlsplit(where).port)
        return
    except RegistryError as error:
        yield Finding("TLS", PROBLEM, str(error), "correct registry.ca_file")
        return
    yield _answered(where, answer.status, arrived - sent)
    theirs = _time_in(answer.body)
    if theirs is not None:
        yield clock_finding((sent + arrived) / 2 - theirs, "the registry")


def _time_in(body: bytes) -> Optional[float]:
    """The coordinator's clock in Unix seconds when it answered; None if the answer does not contain it."""
    try:
        moment = time_from_text("time", json.loads(body)["time"])
    except (ValueError, KeyError, TypeError, RecursionError):  # ValidationError is a ValueError
        return None
    return None if moment is None else moment.timestamp()


def _answered(where: str, status: int, seconds: float) -> Finding:
    if status == http.HTTPStatus.OK:
        return Finding("registry", OK, f"{where} answers in {seconds * 1000:.0f} ms")
    remedy = "check that this is the coordinator; `duxnet doctor` on its machine and its journal show more"
    return Finding("registry", PROBLEM, f"{where} answers /healthz with status {status}", remedy)


def _certificate(stream: ssl.SSLSocket) -> Finding:
    certificate = stream.getpeercert() or {}
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    words = f"{stream.version()}, the certificate is valid for {days:.0f} more day{'' if round(days) == 1 else 's'}"
    if days < CERTIFICATE_DAYS_LEFT:
        return Finding("TLS", NOTE, words, "renew the coordinator's certificate")
    return Finding("TLS", OK, words)


def _certificate_remedy(error: ssl.SSLCertVerificationError, host: str) -> str:
    # X509_V_ERR_*: 9 and 10 are about time, 18 to 21 about an unknown issuer.
    if error.verify_code in (9, 10):
        return "renew the certificate, or set this machine's clock (`timedatectl`)"
    if error.verify_code in (18, 19, 20, 21):
        return 'name the CA that issued it: registry.ca_file = "/etc/duxnet/ca.pem"'
    return f"the certificate must name {host}: issue it for that name, or use the name in the certificate"
