"""The coordinator as an ASGI application, to be served by `server` or mounted in somebody's own service.

Here: putting routes, errors, documentation and upkeep together. Not here: sockets and signals (`server`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Optional

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from duxnet.coordinator.access.audit_log import AUDIT_FILE, AuditLog
from duxnet.coordinator.access.own_identity import KEY_FILE, ensure_coordinator_identity, ensure_operator_token
from duxnet.coordinator.access.token_store import COORDINATOR_DB, TokenStore
from duxnet.coordinator.background import TOLERATED_PULSES, BackgroundLoop, pulse_seconds
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.errors import Refused
from duxnet.coordinator.front import HIDDEN_PATH, Dispatcher
from duxnet.coordinator.http.browsable import PAGE_ROUTES
from duxnet.coordinator.http.problem_answers import counted
from duxnet.coordinator.liveness.listening_clock import ListeningClock
from duxnet.coordinator.routes.monitoring import WATCH_ROUTES
from duxnet.coordinator.routes.nodes import NODE_ROUTES
from duxnet.coordinator.routes.operators import OPERATE_ROUTES
from duxnet.coordinator.routes.queries import READ_ROUTES
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError, RegistryError
from registry_core.rules.liveness import DOWN_AFTER_INTERVALS
from registry_core.storage.key_sources import find_keys
from registry_core.version import __version__
from registry_core.wire.shapes import MAX_REGISTRATION_BYTES

__all__ = ["app_of", "create_app", "listening_clock", "open_coordinator"]

_log = logging.getLogger("duxnet.coordinator")

_KIND_OF_STATUS = {
    400: "malformed",
    404: "unknown-address",
    405: "method-not-allowed",
    413: "too-large",
    415: "wrong-content-type",
}


def listening_clock(settings: CoordinatorSettings) -> ListeningClock:
    """The clock that a coordinator with these settings follows its nodes by."""
    return ListeningClock(TOLERATED_PULSES * pulse_seconds(settings.shortest_interval_seconds))


def open_coordinator(settings: CoordinatorSettings) -> Coordinator:
    """Everything that lies in the state directory, opened; made there at the first start. Raises StoreError."""
    state_dir = settings.state_path(os.environ)
    path = settings.registry_path(os.environ)
    _refuse_lost_tokens(state_dir, path)
    identity = ensure_coordinator_identity(state_dir)
    clock = listening_clock(settings)
    timeout = DOWN_AFTER_INTERVALS * settings.shortest_interval_seconds
    keys = find_keys(settings.key_path(), os.environ)
    with ExitStack() as opened:  # the tokens first: a start that was killed leaves no registry without them
        token_store = opened.enter_context(closing(TokenStore(state_dir / COORDINATOR_DB)))
        registry = opened.enter_context(
            NodeRegistry(
                path,
                encryption_key=keys,
                heartbeat_timeout_seconds=timeout,
                clock=clock,
                sum_key=identity.sum_key,
            )
        )
        coordinator = _assembled(registry, token_store, state_dir, settings, identity, clock)
        opened.pop_all()
    return coordinator


def _refuse_lost_tokens(state_dir: Path, registry_path: Path) -> None:
    """A coordinator that was here before has its tokens beside its nodes: no empty file takes their place."""
    path = state_dir / COORDINATOR_DB
    if os.path.lexists(state_dir / KEY_FILE) and registry_path.exists() and not os.path.lexists(path):
        raise DamagedStoreError(
            str(path),
            f"is missing although {registry_path.name} is there: all tokens would be lost; restore it from a backup. "
            f"Without one, start once with {registry_path.name} moved aside, stop, and put it back: with new tokens",
        )


def create_app(
    registry: NodeRegistry,
    state_dir: Optional[Path] = None,
    settings: Optional[CoordinatorSettings] = None,
    clock: Optional[ListeningClock] = None,
) -> Dispatcher:
    """The ASGI application around a registry of one's own.

    Keys, tokens and audit log lie in `state_dir`; default: where `duxnet coordinator` would keep them. The host runs
    the application's lifespan (its upkeep lives there) and closes the registry. `clock` is the
    `listening_clock(settings)` that the registry was made with; with another clock, time during which the host's loop
    stands still counts against the nodes. Needs a registry that was made with `heartbeat_timeout_seconds`.
    """
    chosen = settings if settings is not None else CoordinatorSettings()
    place = state_dir if state_dir is not None else chosen.state_path(os.environ)
    identity = ensure_coordinator_identity(place)
    token_store = TokenStore(place / COORDINATOR_DB)
    return app_of(_assembled(registry, token_store, place, chosen, identity, clock or listening_clock(chosen)))


def _assembled(
    registry: NodeRegistry,
    token_store: TokenStore,
    state_dir: Path,
    settings: CoordinatorSettings,
    identity: Any,
    clock: ListeningClock,
) -> Coordinator:
    _take_over_removed(registry, token_store)
    ensure_operator_token(state_dir, token_store, time.time())
    audit = AuditLog(state_dir / AUDIT_FILE, clock.now)
    return Coordinator(registry, identity, token_store, audit, settings, clock)


def _take_over_removed(registry: NodeRegistry, token_store: TokenStore) -> None:
    """What layout 1 of coordinator.db kept of removed nodes is kept by the registry. Done again after a crash."""
    found = token_store.removed_before()
    if found:
        with registry.batch():
            for each in found:
                state: dict[str, Any] = {}
                if each.generation is not None and each.generation >= 0:
                    state["generation"] = each.generation
                if each.links and each.key:
                    state.update(links=each.links, key=each.key)
                registry.host.take_over_removed(
                    each.node_id, state=state, lasts="links" in state, ban=each.ban or "", removed_at=each.at
                )
    token_store.forget_removed()


def app_of(coordinator: Coordinator) -> Dispatcher:
    """The ASGI application of a coordinator."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        background = asyncio.ensure_future(BackgroundLoop(coordinator).run())
        background.add_done_callback(_told_if_failed)
        try:
            yield
        finally:
            coordinator.is_stopping = True
            coordinator.ticked()
            background.cancel()
            with suppress(asyncio.CancelledError):
                await background

    def problem(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        answer = counted(_ours(error), request.method, request.scope["path"], coordinator.counters)
        headers = dict(answer.headers)
        media_type = headers.pop("content-type")
        return Response(content=answer.body, status_code=answer.status, media_type=media_type, headers=headers)

    app = Litestar(
        route_handlers=[*NODE_ROUTES, *READ_ROUTES, *OPERATE_ROUTES, *WATCH_ROUTES, *PAGE_ROUTES],
        dependencies={
            "coordinator": Provide(lambda: coordinator, sync_to_thread=False),
        },
        exception_handlers={Exception: problem},
        lifespan=[lifespan],
        openapi_config=OpenAPIConfig(
            title="DuxNet coordinator",
            version=__version__,
            path=HIDDEN_PATH,
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        request_max_body_size=MAX_REGISTRATION_BYTES,
        signature_types=[Coordinator],
        logging_config=None,
        debug=False,
    )
    return Dispatcher(app, coordinator)


def _told_if_failed(background: asyncio.Future[None]) -> None:
    if not background.cancelled() and background.exception() is not None:
        _log.critical("time stands still: nobody is called down any more; restart", exc_info=background.exception())


def _ours(error: Exception) -> Exception:
    """The framework's own errors in our kinds."""
    if isinstance(error, (RecursionError, UnicodeDecodeError)):  # deeper than the interpreter's stack; not UTF-8
        return Refused("malformed", "nested too deeply, or not UTF-8")
    if isinstance(error, RegistryError) or not isinstance(error, HTTPException):
        return error
    detail = str(error.detail)
    extra = getattr(error, "extra", None)
    if error.status_code == 400 and isinstance(extra, list) and extra:
        told = "; ".join(
            f"{item.get('key', '')}: {item.get('message', '')}" for item in extra if isinstance(item, dict)
        )
        return Refused("invalid", told or detail)
    return Refused(_KIND_OF_STATUS.get(error.status_code, "malformed"), detail)
