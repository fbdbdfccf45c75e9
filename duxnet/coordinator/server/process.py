"""The coordinator as a process: uvicorn with our connection class, TLS, signals, the service manager.

Here: start, serve, stop. Not here: the application (`app`), settings (`settings`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, cast

import uvicorn

from duxnet.coordinator.access.browsers import names_in_certificate
from duxnet.coordinator.access.own_identity import OPERATOR_TOKEN_FILE
from duxnet.coordinator.app import app_of, open_coordinator
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import WorkEnded
from duxnet.coordinator.server.connection import MOST_CONNECTIONS, BoundedProtocol, sweep_connections
from duxnet.coordinator.server.tls_listener import Handshakes
from duxnet.coordinator.settings import CoordinatorSettings
from duxnet.process.notify import Notifier
from registry_core.errors import StoreError

__all__ = ["serve"]

_log = logging.getLogger("duxnet.coordinator")

STOP_SECONDS = 5
BACKLOG = 2048
FOLLOWERS_SHARE = 8
"""An eighth of all connections is for strangers' streams and long polls, with shares and tokens' at most half."""
FILES_BESIDE_CONNECTIONS = 256
"""File descriptors reserved for the registry's files, its readers and the log."""
SWITCH_SECONDS = 0.0005
"""How long the commit thread may block the event loop. Python's default of 5 ms would delay each request."""
GC_THRESHOLDS = (20_000, 50, 100)
"""Requests leave hardly any cycles. Lower values would use less memory and more time."""


def serve(settings: CoordinatorSettings, *, ready: Optional[Callable[[str], None]] = None) -> None:
    """Open everything and serve until SIGTERM or SIGINT. `ready` is called with the address once it listens.

    Raises StoreError and its subclasses if a file cannot be opened or the address cannot be listened on.
    """
    listener = _listener(settings)
    try:
        coordinator = open_coordinator(settings)
    except BaseException:
        listener.close()
        raise
    try:
        _run(settings, coordinator, listener, ready)
    finally:
        coordinator.close()
        listener.close()


def _listener(settings: CoordinatorSettings) -> socket.socket:
    """Binds the socket before any file is opened, so that a port in use fails at once."""
    where = f"{settings.host} port {settings.port}"
    try:
        info = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(info[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
    except OSError as error:
        raise StoreError(where, f"cannot listen: {error.strerror or error}") from error
    return listener


def _run(
    settings: CoordinatorSettings,
    coordinator: Coordinator,
    listener: socket.socket,
    ready: Optional[Callable[[str], None]],
) -> None:
    app = app_of(coordinator)
    most = _most_connections()
    coordinator.bound_followers(most // FOLLOWERS_SHARE)
    context = _tls_context(settings)
    if context is not None:
        coordinator.host_names.of_certificate = _names_in(settings.tls_certificate)
    config = uvicorn.Config(
        cast("Any", app),
        http=cast(
            "Any",
            partial(
                BoundedProtocol,
                dispatcher=app,
                most_connections=most,
            ),
        ),
        ws="none",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=BACKLOG,
    )
    config.load()
    # We log start and stop. uvicorn's warnings would let any client add a line with each malformed request.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    server = _Server(config, coordinator, context, most)
    asyncio_run = _runner(config)
    asyncio_run(_serve(server, coordinator, settings, listener, ready, most))


def _tls_context(settings: CoordinatorSettings) -> Optional[ssl.SSLContext]:
    """Returns the TLS settings; None: plain http."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if not certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # invalid certificate or unreadable key; ssl.SSLError is an OSError
        raise StoreError(_unreadable(certificate, key), f"cannot be used: {error.strerror or error}") from error
    return context


def _names_in(certificate: str) -> frozenset[str]:
    """The certificate's names. If its format is not supported here, logs that and returns no names."""
    try:
        return names_in_certificate(Path(certificate))
    except ValueError as error:
        _log.warning("%s: its names cannot be read, so only the names in hosts are accepted: %s", certificate, error)
        return frozenset()


def _unreadable(certificate: str, key: str) -> str:
    """Which of the two files the error is about: the key if it cannot be read, else the certificate."""
    return key if os.access(certificate, os.R_OK) and not os.access(key, os.R_OK) else certificate


def _most_connections() -> int:
    """Returns the maximum number of connections. Raises the limit of open files as far as the system allows."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource

    wanted = MOST_CONNECTIONS + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # RLIM_INFINITY is negative or very large
    if 0 <= soft < wanted:
        soft = min(hard, wanted) if hard >= 0 else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if 0 <= soft < wanted:
        most = max(1, soft - FILES_BESIDE_CONNECTIONS)
        _log.warning("accepting at most %d connections, since the limit of open files is %d (ulimit -n)", most, soft)
        return most
    return MOST_CONNECTIONS


class _Server(uvicorn.Server):
    """A uvicorn server that does not raise the signal again after it has stopped: that would end the process unsaved.

    With TLS, `tls_listener` accepts the connections, since uvicorn does not limit handshakes.
    On SIGHUP the server reloads the certificate and opens the audit log again.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        coordinator: Coordinator,
        context: Optional[ssl.SSLContext],
        most_connections: int,
    ) -> None:
        super().__init__(config)
        self._coordinator = coordinator
        self._context = context
        self._most_connections = most_connections
        self._handshakes: list[Handshakes] = []

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        if self._context is None:
            await super().startup(sockets)
            return
        await super().startup([])  # everything except listening
        connections = self.server_state.connections
        make_connection = partial(
            cast("Any", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        for listener in sockets or ():
            handshakes = Handshakes(self._context, listener, make_connection, connections, self._most_connections)
            handshakes.open(self.config.backlog)
            self._handshakes.append(handshakes)

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        for handshakes in self._handshakes:
            handshakes.close()
        await super().shutdown(sockets)

    def _renew(self) -> None:
        """Open the audit log again and reload the certificate. On an error the old one stays in use."""
        certificate, key = self._coordinator.settings.tls_certificate, self._coordinator.settings.tls_key
        try:
            self._coordinator.audit.reopen()
            if self._context is not None:
                # Try a new context first: a key that does not match would leave the running one without a certificate.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
                self._context.load_cert_chain(certificate, key)
                self._coordinator.host_names.of_certificate = _names_in(certificate)
        except OSError as error:  # also ssl.SSLError
            which = _unreadable(certificate, key)
            _log.error("SIGHUP: %s cannot be used, so the old one stays in use: %s", which, error.strerror or error)
        except StoreError as error:
            _log.error("SIGHUP: %s", error)
        else:
            _log.info(
                "SIGHUP: reopened the audit log and reloaded the certificate; settings are read at the next start only"
            )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._renew)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _runner(config: uvicorn.Config) -> Callable[[Any], None]:
    """`asyncio.run`, on uvloop if it is installed."""
    if config.loop == "uvloop":
        with contextlib.suppress(ImportError):
            import uvloop

            def run(main: Any) -> None:
                loop = uvloop.new_event_loop()
                try:
                    asyncio.set_event_loop(loop)
                    loop.run_until_complete(main)
                finally:
                    asyncio.set_event_loop(None)
                    loop.close()

            return run
    return asyncio.run


async def _serve(
    server: uvicorn.Server,
    coordinator: Coordinator,
    settings: CoordinatorSettings,
    listener: socket.socket,
    ready: Optional[Callable[[str], None]],
    most_connections: int,
) -> None:
    notifier = Notifier(os.environ)
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    work = [
        asyncio.ensure_future(sweep_connections(cast("Any", server.server_state.connections), most_connections)),
        asyncio.ensure_future(_notify_manager(server, coordinator, notifier, address, ready)),
    ]
    for each in work:
        each.add_done_callback(partial(_stop_if_failed, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        notifier.stopping()
        for each in work:
            each.cancel()
        ended = await asyncio.gather(*work, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise WorkEnded(error)


def _stop_if_failed(server: uvicorn.Server, work: asyncio.Future[None]) -> None:
    if not work.cancelled() and work.exception() is not None:
        _log.critical("work ended that must go on: the coordinator ends", exc_info=work.exception())
        server.should_exit = True


async def _notify_manager(
    server: uvicorn.Server,
    coordinator: Coordinator,
    notifier: Notifier,
    address: str,
    ready: Optional[Callable[[str], None]],
) -> None:
    """Say that it listens, then feed the watchdog as long as it pulses; end streams when it is stopped.

    Raises what the background work ended with.
    """
    while not server.started:
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()  # objects made at start stay; scanning them again and again was a tenth of a heartbeat's cost
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    place = coordinator.settings.state_path(os.environ)
    _log.info(
        "coordinator %s listens on %s; nodes join: %s; first operator token: %s",
        coordinator.identity.id,
        address,
        _policy(coordinator),
        place / OPERATOR_TOKEN_FILE,
    )
    notifier.ready(f"listening on {address}")
    if ready is not None:
        ready(address)
    rest = min(notifier.watchdog_seconds / 3 if notifier.watchdog_seconds else 1.0, 1.0)
    while not server.should_exit:
        await asyncio.sleep(rest / 2)
        if coordinator.background_failure is not None:
            raise coordinator.background_failure
        if coordinator.is_pulsing:
            notifier.watchdog()
    coordinator.event_feed.close()


def _policy(coordinator: Coordinator) -> str:
    words = {"open": "freely", "token": "with a join token", "approval": "freely, and wait for approval"}
    return words[coordinator.settings.join_policy]
