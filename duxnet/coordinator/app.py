"""The coordinator as an ASGI application, to be served by `server` or mounted in somebody's own service.

Here: opening what it consists of, and its life. Not here: routes (`routes.table`), sockets and signals (`server`).
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
        if token_store.tokens() and not path.exists():
            _log.warning("%s is missing although there are tokens: an empty one is made; bans of before are gone", path)
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
            f"Without one, start once with {registry_path.name} and {OPERATOR_TOKEN_FILE} moved aside, stop, and put "
            f"{registry_path.name} back: with new tokens",
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
    async def lifespan() -> AsyncIterator[None]:
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

    return Dispatcher(coordinator, lifespan)


def _told_if_failed(background: asyncio.Future[None]) -> None:
    if not background.cancelled() and background.exception() is not None:
        _log.critical("time stands still: nobody is called down any more; restart", exc_info=background.exception())
