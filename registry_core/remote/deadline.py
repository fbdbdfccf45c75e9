"""One deadline for a whole exchange, enforced at the socket.

httpx limits each read separately: an answer that arrives a byte at a time, in its head or its body, never exceeds that
limit. Here every wait (connecting, TLS, each read, each write) is limited to the time left until the deadline.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional

import httpcore
import httpx

from registry_core.remote.options import Proxy

__all__ = ["Deadline", "DeadlineTransport"]


class Deadline(threading.local):
    """The time by which this thread's present call must end; infinite outside a call."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._end = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Set the deadline for a `with` block; an earlier deadline that is already set stays."""
        before = self._end
        self._end = min(before, self._monotonic() + seconds)
        try:
            yield
        finally:
            self._end = before

    def seconds_left(self) -> float:
        """Seconds until the deadline; 0 or less when it has passed."""
        return self._end - self._monotonic()

    def shortened(self, timeout: Optional[float], late: type[Exception]) -> Optional[float]:
        """`timeout`, or the time left if that is less. Raises `late` when no time is left."""
        left = self.seconds_left()
        if left <= 0:
            raise late("the deadline has passed")
        if math.isinf(left):
            return timeout
        return left if timeout is None else min(timeout, left)


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's transport on sockets that enforce `deadline`. All requests go through `proxy`, if one is given."""

    def __init__(
        self, deadline: Deadline, context: ssl.SSLContext, *, kept_seconds: float, proxy: Optional[Proxy] = None
    ) -> None:
        super().__init__(verify=context, trust_env=False)
        backend = _Backend(deadline)  # httpx has no parameter for it, so the pool is made here
        if proxy is None:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context, keepalive_expiry=kept_seconds, network_backend=backend
            )
        else:
            self._pool = httpcore.HTTPProxy(
                proxy.url,
                proxy_auth=proxy.credentials,
                ssl_context=context,
                keepalive_expiry=kept_seconds,
                network_backend=backend,
            )


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Optional[float] = None,
        local_address: Optional[str] = None,
        socket_options: Optional[Iterable[Any]] = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid DNS name
            raise httpcore.ConnectError(str(error)) from None
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in dict.fromkeys(str(entry[4][0]) for entry in found):
            seconds = self._deadline.shortened(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
            else:
                return _Stream(stream, self._deadline)
        raise last


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: Optional[float] = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.shortened(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: Optional[float] = None) -> None:
        """Write with one deadline; the inner stream would restart its time-out for each piece that the peer accepts."""
        stream_socket: socket.socket = self._inner.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                stream_socket.settimeout(self._deadline.shortened(timeout, httpcore.WriteTimeout))
                rest = rest[stream_socket.send(rest) :]
        except socket.timeout:
            raise httpcore.WriteTimeout("the peer accepts no data") from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: Optional[str] = None, timeout: Optional[float] = None
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.shortened(timeout, httpcore.ConnectTimeout)  # Python limits the whole handshake
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
