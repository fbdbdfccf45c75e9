"""The configuration file: which one it is, and its content as plain values. What the settings mean: `settings`.

Imports nothing heavy, so that a command that needs one value does not pay for the validation of all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from duxnet.process.errors import ConfigurationError
from duxnet.process.folders import config_file_candidates
from registry_core.errors import StoreError, reason_of, shown_path

__all__ = ["find_config_file", "read_config_file"]

LARGEST_CONFIG_BYTES = 1_000_000  # a configuration is a page or two; this keeps a wrong path from filling memory


def find_config_file(named: Optional[str], environ: Mapping[str, str]) -> Optional[Path]:
    """The file to read, or None: `named`, `$DUXNET_CONFIG`, the user's folder, /etc; the first that applies.

    A file that flag or environment name and that is not there is a ConfigurationError; the others are optional.
    """
    for path, source in ((named, "--config"), (environ.get("DUXNET_CONFIG") or None, "$DUXNET_CONFIG")):
        if path is not None:
            return _existing(Path(path), source)
    for candidate in config_file_candidates(environ):
        if os.access(candidate, os.F_OK):  # False also where a folder on the way may not be searched
            return Path(candidate)
    return None


def _existing(path: Path, source: str) -> Path:
    if str(path) in ("", "."):
        raise ConfigurationError([f"{source}: an empty path is not accepted: must name a configuration file"])
    try:
        path = path.expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte; ~somebody, who is not known here
        raise ConfigurationError([f"{source}: {shown_path(str(path))} cannot be read: {reason_of(error)}"]) from None
    return path


def read_config_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. A ConfigurationError names the file and, for bad TOML, line and column."""
    where = shown_path(str(path))
    try:
        raw = _read(path)
    except OSError as error:
        raise ConfigurationError([f"{where} cannot be read: {reason_of(error)}"]) from None
    except StoreError as error:
        raise ConfigurationError([str(error)]) from None
    if len(raw) > LARGEST_CONFIG_BYTES:
        raise ConfigurationError([f"{where} is larger than {LARGEST_CONFIG_BYTES} bytes: not a configuration"])
    return _parsed(raw, where)


def _read(path: Path) -> bytes:
    """The file's bytes. What root reads must come from root. Raises StoreError, OSError."""
    from registry_core.files.opening import open_regular, refuse_others

    with os.fdopen(open_regular(path), "rb") as file:
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            refuse_others(path, file.fileno())
        return file.read(LARGEST_CONFIG_BYTES + 1)


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{where} is not UTF-8 text (byte {error.start})"]) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its text ends in "(at line 3, column 7)"
        raise ConfigurationError([f"{where} is not valid TOML: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise ConfigurationError([f"{where} is not valid TOML: nested too deeply"]) from None
