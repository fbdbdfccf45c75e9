"""With which keys a command opens a registry: those that were named, else those of the configuration if sealed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from duxnet.cli.local_agent import find_local_agent
from registry_core.errors import StoreError

if TYPE_CHECKING:
    from registry_core.storage.sealing import KeyRing

__all__ = ["keys_of"]


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
    return find_keys(find_local_agent(config).key_file, os.environ) if is_sealed else None
