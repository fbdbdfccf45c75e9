"""From the text that names a registry to the registry: a path is opened in this process, an address is not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from registry_core.errors import NotSupportedError, ValidationError, shown

if TYPE_CHECKING:
    from registry_core.contract import Registry
    from registry_core.storage.sealing import KeyRing

__all__ = ["is_address", "open_registry"]


def is_address(target: str) -> bool:
    """True for something like `http://…`, which is reached over the network."""
    return "://" in target


def open_registry(
    target: str,
    *,
    read_only: bool = False,
    heartbeat_timeout_seconds: Optional[float] = None,
    keys: Optional[KeyRing] = None,
) -> Registry:
    """The registry that `target` names. Raises NotSupportedError, ValidationError, StoreError."""
    if is_address(target):
        if not target.startswith(("http://", "https://")):
            raise ValidationError("registry", target, "must be a path, or an address with http:// or https://")
        raise NotSupportedError(f"{shown(target)}: a registry over the network is not in this version; name a file")
    from registry_core.node_registry import NodeRegistry

    opened: Any = NodeRegistry
    registry: Registry = opened(
        target, encryption_key=keys, read_only=read_only, heartbeat_timeout_seconds=heartbeat_timeout_seconds
    )
    return registry
