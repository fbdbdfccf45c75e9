"""Opens the registry that a text names: a path is opened in this process, an address over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from registry_core.errors import ValidationError

if TYPE_CHECKING:
    from registry_core.contract import Registry
    from registry_core.storage.sealing import KeyRing

__all__ = ["OwnNode", "check_target", "is_address", "open_registry"]


def is_address(target: str) -> bool:
    """True for a URL such as `http://…`, which is reached over the network."""
    return "://" in target


def check_target(target: str) -> None:
    """Raise ValidationError for a text that cannot name a registry, without opening it."""
    if is_address(target):
        if not target.startswith(("http://", "https://")):
            raise ValidationError("registry", target, "must be a path, or an address with http:// or https://")
        return
    from registry_core.storage.open_store import checked_path

    try:
        checked_path(target)
    except ValidationError as error:
        rule = f"{error.rule}; an address begins with http:// or https://"
        raise ValidationError("registry", target, rule) from None


@dataclass(frozen=True)
class OwnNode:
    """The node that connects to a coordinator: the folder of its key, its report interval, its machine and boot.

    `join_token` comes from systemd; the one in the settings has priority.
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
    options: Optional[Mapping[str, Any]] = None,
    own_node: Optional[OwnNode] = None,
) -> Registry:
    """The registry that `target` names; `options` (of RemoteOptions) and `own_node` are for a coordinator.

    Raises ValidationError, StoreError.
    """
    check_target(target)
    if is_address(target):
        return _remote(target, dict(options or {}), own_node)
    from registry_core.embedded.node_registry import NodeRegistry

    return NodeRegistry(
        target, encryption_key=keys, read_only=read_only, heartbeat_timeout_seconds=heartbeat_timeout_seconds
    )


def _remote(target: str, given: dict[str, Any], own_node: Optional[OwnNode]) -> Registry:
    from registry_core.remote import RemoteOptions, RemoteRegistry  # loads httpx, only needed here

    if own_node is not None:
        import secrets

        given.update(
            interval_seconds=own_node.interval_seconds,
            machine_hint=own_node.machine_hint,
            # A new suffix at each start: two agents with a copied key are detected even within the same boot.
            boot_id=f"{own_node.boot_id}.{secrets.token_hex(4)}",
            join_token=given.get("join_token") or own_node.join_token,
        )
    state_dir = own_node.state_dir if own_node is not None else None
    return RemoteRegistry(target, state_dir=state_dir, options=RemoteOptions(**given))
