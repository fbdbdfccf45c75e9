"""From the text that names a registry to the registry: a path is opened in this process, an address over HTTP."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from agent.registry_address import check_target, is_address

if TYPE_CHECKING:
    from agent.settings import RegistrySettings
    from registry_core.contract import Registry
    from registry_core.storage.sealing import KeyRing

__all__ = ["OwnNode", "open_registry"]


@dataclass(frozen=True)
class OwnNode:
    """Who speaks to a coordinator as a node: where its key lies, how often it reports, which machine and boot it is.

    `join_token` is the one from systemd; one in the settings goes before it.
    """

    state_dir: Path
    interval_seconds: float
    machine_hint: str
    boot_id: str
    join_token: str = ""


def open_registry(
    target: str,
    *,
    read_only: bool = False,
    heartbeat_timeout_seconds: Optional[float] = None,
    keys: Optional[KeyRing] = None,
    settings: Optional[RegistrySettings] = None,
    own_node: Optional[OwnNode] = None,
) -> Registry:
    """The registry that `target` names; of `settings` and `own_node` only the way to a coordinator makes use.

    Raises ValidationError, StoreError.
    """
    check_target(target)
    if is_address(target):
        return _remote(target, settings, own_node)
    from registry_core.embedded.node_registry import NodeRegistry

    opened: Any = NodeRegistry
    registry: Registry = opened(
        target, encryption_key=keys, read_only=read_only, heartbeat_timeout_seconds=heartbeat_timeout_seconds
    )
    return registry


def _remote(target: str, settings: Optional[RegistrySettings], own_node: Optional[OwnNode]) -> Registry:
    from registry_core.remote import RemoteOptions, RemoteRegistry  # httpx, which an embedded registry does without

    given: dict[str, Any] = {}
    if settings is not None:
        given = {
            "token": settings.token.get_secret_value(),
            "join_token": settings.join_token.get_secret_value(),
            "coordinator_id": settings.coordinator_id,
            "ca_file": settings.ca_file or None,
            "allow_plaintext": settings.allow_plaintext,
            "proxy": settings.proxy.get_secret_value(),
        }
    if own_node is not None:
        given.update(
            interval_seconds=own_node.interval_seconds,
            machine_hint=own_node.machine_hint,
            # Each start is one of its own: two agents of one boot with a copied key are found out as two boots are.
            boot_id=f"{own_node.boot_id}.{secrets.token_hex(4)}",
            join_token=given.get("join_token") or own_node.join_token,
        )
    state_dir = own_node.state_dir if own_node is not None else None
    return RemoteRegistry(target, state_dir=state_dir, options=RemoteOptions(**given))
