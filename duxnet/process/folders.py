"""The folders where a process keeps its files by default: those of systemd, else the XDG base directories.

Paths are text because `pathlib` would add 3 ms to the start of the probe. A relative path in an XDG variable is
ignored, as the XDG specification requires.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["SYSTEM_CONFIG_FILE", "config_file_candidates", "default_state_folder"]

SYSTEM_CONFIG_FILE = "/etc/duxnet/config.toml"


def default_state_folder(environ: Mapping[str, str], name: str = "duxnet") -> str:
    """`$STATE_DIRECTORY` (systemd), else `$XDG_STATE_HOME/NAME`, /var/lib/NAME for root or `~/.local/state/NAME`."""
    from_systemd = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if from_systemd:
        return from_systemd
    given = environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return f"{given}/{name}"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return f"/var/lib/{name}"
    return f"{_home(environ)}/.local/state/{name}"


def config_file_candidates(environ: Mapping[str, str]) -> tuple[str, str]:
    """The places of a configuration file: below `$XDG_CONFIG_HOME` or `~/.config`, then in /etc."""
    given = environ.get("XDG_CONFIG_HOME", "")
    user = given if given.startswith("/") else f"{_home(environ)}/.config"
    return f"{user}/duxnet/config.toml", SYSTEM_CONFIG_FILE


def _home(environ: Mapping[str, str]) -> str:
    """`$HOME`, else the home of the user database; empty if neither has one (a container's user without a name)."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises
    return home if home.startswith("/") else ""
