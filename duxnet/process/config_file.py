"""The configuration file: which one is read, and its content as plain values. `settings` has what they mean.

It imports nothing heavy, so that a command that needs one value does not pay for the validation of all.
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

LARGEST_CONFIG_BYTES = 1_000_000  # a configuration has a page or two; a wrong path must not fill the memory


def find_config_file(named: Optional[str], environ: Mapping[str, str]) -> Optional[Path]:
    """The first of `named`, `$DUXNET_CONFIG`, the file in the user's folder and the one in /etc; None if there is none.

    Raises ConfigurationError if `named` or `$DUXNET_CONFIG` names a missing file. The other files are optional.
    """
    for path, source in ((named, "--config"), (environ.get("DUXNET_CONFIG") or None, "$DUXNET_CONFIG")):
        if path is not None:
            return _existing(Path(path), source)
    for candidate in config_file_candidates(environ):
        if os.access(candidate, os.F_OK):  # also False if a folder of the path cannot be entered
            return Path(candidate)
    return None


def _existing(path: Path, source: str) -> Path:
    if str(path) in ("", "."):
        raise ConfigurationError([f"{source}: an empty path is not accepted: must name a configuration file"])
    try:
        path = path.expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte; ~name of an unknown user
        raise ConfigurationError([f"{source}: {shown_path(str(path))} cannot be read: {reason_of(error)}"]) from None
    return path


def read_config_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigurationError with the file and, for bad TOML, the line and column."""
    where = shown_path(str(path))
    try:
        raw = _read(path)
    except OSError as error:
        raise ConfigurationError([f"{where} cannot be read: {reason_of(error)}"]) from None
    except StoreError as error:
        raise ConfigurationError([str(error)]) from None
    if len(raw) > LARGEST_CONFIG_BYTES:
        raise ConfigurationError([f"{where}: must have at most {LARGEST_CONFIG_BYTES} bytes"])
    return _parsed(raw, where)


def _read(path: Path) -> bytes:
    """The file's bytes. Root reads only files that belong to root. Raises StoreError, OSError."""
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
