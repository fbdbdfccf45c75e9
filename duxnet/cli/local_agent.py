"""The agent on this machine, for commands that look at it: its state directory, its registry and the registry's keys.

Only these few settings are read: to validate all of them loads pydantic, which takes longer than the whole command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Optional

from agent.open_registry import check_target
from agent.state_dir import REGISTRY_FILE
from agent.status_file import local_folder
from duxnet.process.folders import default_state_folder
from duxnet.process.layers import read_layers
from registry_core.errors import ValidationError

__all__ = ["LocalAgent", "find_local_agent"]


class LocalAgent(NamedTuple):
    """`registry` is a path or an address. `key_file` holds its encryption keys, or is None if none is configured."""

    state_dir: Path
    registry: str
    key_file: Optional[Path]


def find_local_agent(config: Optional[str] = None, state_dir: Optional[str] = None) -> LocalAgent:
    """The agent that flags, environment or file name, else that of the service. Raises ConfigurationError."""
    layers = read_layers(("agent", "registry"), os.environ, config=config, flags={"agent.state_dir": state_dir})
    named = layers.path("agent", "state_dir")
    folder = Path(named).absolute() if named else local_folder(Path(default_state_folder(os.environ)), os.environ)
    target = layers.path("registry", "target")
    if target:
        try:
            check_target(target)
        except ValidationError as error:
            raise layers.refused("registry.target", error.value, error.rule) from None
    key_file = layers.path("registry", "encryption_key_file")
    return LocalAgent(folder, target or str(folder / REGISTRY_FILE), Path(key_file).absolute() if key_file else None)
