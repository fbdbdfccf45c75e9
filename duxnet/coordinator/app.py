"""The coordinator as an ASGI application, served by `server` or mounted in another service.

Here: opening its parts, and its lifespan. Not here: routes (`routes.table`), sockets and signals (`server`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, Optional

from duxnet.coordinator.access.audit_log import AUDIT_FILE, AuditLog
from duxnet.coordinator.access.own_identity import (
    KEY_FILE,
    OPERATOR_TOKEN_FILE,
    ensure_coordinator_identity,
    ensure_operator_token,
)
from duxnet.coordinator.access.token_store import COORDINATOR_DB, TokenStore
from duxnet.coordinator.background import TOLERATED_PULSES, BackgroundLoop, pulse_seconds
from duxnet.coordinator.coordinator import Coordinator
from duxnet.coordinator.front import Dispatcher
from duxnet.coordinator.liveness.listening_clock import ListeningClock
from duxnet.coordinator.settings import CoordinatorSettings
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError
from registry_core.rules.liveness import DOWN_AFTER_INTERVALS
from registry_core.storage.key_sources import find_keys

__all__ = ["app_of", "create_app", "listening_clock", "open_coordinator"]

_log = logging.getLogger("duxnet.coordinator")


def listening_clock(settings: CoordinatorSettings) -> ListeningClock:
    """The clock by which a coordinator with these settings judges liveness."""
    return ListeningClock(TOLERATED_PULSES * pulse_seconds(settings.shortest_interval_seconds))


def open_coordinator(settings: CoordinatorSettings) -> Coordinator:
    """Opens everything in the state directory, which is created at the first start. Raises StoreError."""
    state_dir = settings.state_path(os.environ)
    path = settings.registry_path(os.environ)
    _refuse_lost_tokens(state_dir, path)
    identity = ensure_coordinator_identity(state_dir)
    clock = listening_clock(settings)
    timeout = DOWN_AFTER_INTERVALS * settings.shortest_interval_seconds
    keys = find_keys(settings.key_path(), os.environ)
    with ExitStack() as opened:  # tokens first: a first start that is killed must not leave a registry without tokens
        token_store = opened.enter_context(closing(TokenStore(state_dir / COORDINATOR_DB)))
        if token_store.tokens() and not path.exists():
            _log.warning(
                "%s is missing although there are tokens: an empty registry is created; nodes and bans are lost", path
            )
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
    """Raise DamagedStoreError if the tokens are missing beside an existing key and registry."""
    path = state_dir / COORDINATOR_DB
    if os.path.lexists(state_dir / KEY_FILE) and registry_path.exists() and not os.path.lexists(path):
        raise DamagedStoreError(
            str(path),
            f"is missing although {registry_path.name} is there: all tokens would be lost; restore it from a backup. "
            f"Without one, start once with {registry_path.name} and {OPERATOR_TOKEN_FILE} moved aside, stop, and move "
            f"{registry_path.name} back: with new tokens",
        )


def create_app(
    registry: NodeRegistry,
    state_dir: Optional[Path] = None,
    settings: Optional[CoordinatorSettings] = None,
    clock: Optional[ListeningClock] = None,
) -> Dispatcher:
    """The ASGI application for a registry that the caller has opened.

    Keys, tokens and audit log are in `state_dir`, by default where `duxnet coordinator` stores them. The caller runs
    the application's lifespan, which runs the background loop, and closes the registry. `clock` is the
    `listening_clock(settings)` that the registry was made with; with another clock, time during which the caller's
    loop does not run counts against the nodes. The registry must have `heartbeat_timeout_seconds`.
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
    """Move what layout 1 of coordinator.db stored about removed nodes to the registry. Repeated after a crash."""
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
    async def lifespan() -> AsyncIterator[None]:
        background = asyncio.ensure_future(BackgroundLoop(coordinator).run())
        background.add_done_callback(partial(_note_failed, coordinator))
        try:
            yield
        finally:
            coordinator.event_feed.close()
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)  # a failure was already logged

    return Dispatcher(coordinator, lifespan)


def _note_failed(coordinator: Coordinator, background: asyncio.Future[None]) -> None:
    """Make `/healthz` report the failure and our own server exit. A different server has to watch `/healthz`."""
    if not background.cancelled():
        coordinator.background_failure = background.exception()
        _log.critical("background work ended: no node is marked down any more", exc_info=background.exception())
