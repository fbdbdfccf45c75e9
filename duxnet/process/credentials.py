"""Secrets that systemd passes to a unit: small files in a folder that only the unit can enter (man systemd.exec).

Here: tokens. Not here: the encryption keys of a registry, which have a form of their own (`registry_core`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from duxnet.process.errors import ConfigurationError
from registry_core.errors import StoreError, ValidationError, reason_of
from registry_core.files.opening import read_regular
from registry_core.identity.tokens import checked_token

__all__ = ["credential"]

LARGEST_BYTES = 4096


def credential(name: str, environ: Mapping[str, str]) -> str:
    """The text of the credential `name`, or "" if there is none. Raises ConfigurationError, which never shows it."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return ""
    try:
        content = read_regular(Path(folder) / name, LARGEST_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError([f"credential {name}: cannot be read: {reason_of(error)}"]) from None
    except StoreError as error:
        raise ConfigurationError([f"credential {name}: {error.reason}"]) from None
    if len(content) > LARGEST_BYTES:
        raise ConfigurationError([f"credential {name}: must be at most {LARGEST_BYTES} bytes"])
    try:
        return checked_token(name, content.decode("utf-8", "replace"))
    except ValidationError as error:
        raise ConfigurationError([f"credential {name}: {error.rule}"]) from None
