"""One deadline for a whole exchange, kept at the socket.

httpx bounds each read by itself: an answer that comes a byte at a time, in its head or in its body, never meets such a
bound. Here every wait (connecting, TLS, each read, each write) gets no more than what is left of the deadline.
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
    """When what this thread does now must be over. Infinity where nothing was begun."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._end = math.inf

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Set the deadline for the time of a `with`; an earlier one that is set already stays."""
        before = self._end
        self._end = min(before, self._monotonic() + seconds)
        try:
            yield
        finally:
            self._end = before

    def seconds_left(self) -> float:
        """Until the deadline; 0 or less when it has passed."""
        return self._end - self._monotonic()

    def shortened(self, timeout: Optional[float], late: type[Exception]) -> Optional[float]:
        """`timeout`, or what is left where that is less. Raises `late` when nothing is left."""
        left = self.seconds_left()
        if left <= 0:
            raise late("the deadline has passed")
        if math.isinf(left):
            return timeout
        return left if timeout is None else min(timeout, left)


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's transport on sockets that keep `deadline`. All requests go through `proxy` where one is given."""

    def __init__(
        self, deadline: Deadline, context: ssl.SSLContext, *, kept_seconds: float, proxy: Optional[Proxy] = None
    ) -> None:
        super().__init__(verify=context, trust_env=False)
        backend = _Backend(deadline)  # httpx has no parameter for it: the pool is made here, as httpx makes it
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
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no DNS can hold
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
        """The inner stream would begin its time-out anew for each piece that the peer takes."""
        stream_socket: socket.socket = self._inner.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                stream_socket.settimeout(self._deadline.shortened(timeout, httpcore.WriteTimeout))
                rest = rest[stream_socket.send(rest) :]
        except socket.timeout:
            raise httpcore.WriteTimeout("the peer takes nothing") from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: Optional[str] = None, timeout: Optional[float] = None
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.shortened(timeout, httpcore.ConnectTimeout)  # Python bounds the handshake as a whole
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
