"""With which keys a command opens a registry: those that were named, else those of the configuration if sealed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from registry_core.errors import StoreError

if TYPE_CHECKING:
    from registry_core.storage.sealing import KeyRing

__all__ = ["configured_key_file", "keys_of"]


def keys_of(place: Path, key_file: Optional[Path], config: Optional[str], *, needed: bool) -> Optional[KeyRing]:
    """The keys for the registry at `place`; None for one in clear, or where no source has any.

    A key file that was named is read in any case. `needed` False: a registry that cannot be looked at is left for
    the command to report. Raises StoreError, ValidationError, ConfigurationError.
    """
    from registry_core.storage.key_sources import find_keys, read_key_file
    from registry_core.storage.maintenance.verify import sealed_with

    if key_file is not None:
        return read_key_file(key_file)
    try:
        is_sealed = bool(sealed_with(place))
    except StoreError:
        if needed:
            raise
        return None
    return find_keys(configured_key_file(config), os.environ) if is_sealed else None


def configured_key_file(config: Optional[str]) -> Optional[Path]:
    """`registry.encryption_key_file` of the configuration. Raises ConfigurationError."""
    from agent.settings import RegistrySettings, load_agent_settings

    return load_agent_settings(config).section("registry", RegistrySettings).key_path()
