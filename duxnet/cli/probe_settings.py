"""The few settings of the agent that a probe needs, read without the validation of all: that would take 400 ms.

`agent.settings` says what these settings mean, and a test holds both readers to the same answer. `ProbeOptions`
refuses what makes no sense.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from duxnet.process.folders import default_state_folder, user_config_folder

if TYPE_CHECKING:
    from agent.probe.options import ProbeOptions

__all__ = ["configured_options"]

_PREFIX = "DUXNET_AGENT__"
# How the settings behind the fields of ProbeOptions are called
_SETTINGS = {
    "reserve_": "agent.reserve.",
    "overrides.": "agent.override.",
    "registry_address": "registry.target",
}
_RESERVES = ("cpus", "memory_gb", "storage_gb")


def configured_options(environ: Mapping[str, str], work_dir: Optional[str]) -> ProbeOptions:
    """The options that an agent here would use; `work_dir`, when given, wins. Raises ConfigurationError."""
    from agent.probe.options import ProbeOptions, registry_host
    from registry_core.errors import ValidationError

    if work_dir is not None:
        ProbeOptions(work_dir)  # a mistake on the command line is no mistake of the configuration
    configured = _file(environ)
    agent = _with_environment(_table(configured, "agent"), environ)
    target = environ.get("DUXNET_REGISTRY__TARGET") or _text(_table(configured, "registry"), "target")
    reserve, override = _table(agent, "reserve"), _table(agent, "override")
    folder = _path(agent, "work_dir") or _path(agent, "state_dir") or default_state_folder(environ)
    try:
        return ProbeOptions(
            work_dir if work_dir is not None else folder,
            registry_address=registry_host(target),
            overrides=override,
            **{f"reserve_{name}": reserve[name] for name in _RESERVES if name in reserve},
        )
    except ValidationError as error:
        from duxnet.process.errors import ConfigurationError

        name = next((to + error.field[len(of) :] for of, to in _SETTINGS.items() if error.field.startswith(of)), "")
        told = ValidationError(name or f"agent.{error.field}", error.value, error.rule)
        raise ConfigurationError([str(told)]) from None


def _file(environ: Mapping[str, str]) -> dict[str, Any]:
    """The tables of the configuration file; none without one. Its reader is imported only where there is a file."""
    folders = (f"{user_config_folder(environ)}/duxnet", "/etc/duxnet")
    if not environ.get("DUXNET_CONFIG") and not any(os.access(f"{it}/config.toml", os.F_OK) for it in folders):
        return {}
    from duxnet.process.config_file import find_config_file, read_config_file

    path = find_config_file(None, environ)
    return read_config_file(path) if path is not None else {}


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, dict):
        from duxnet.process.errors import ConfigurationError

        raise ConfigurationError([f"{name}: {found!r} is not accepted: must be a table"])
    return dict(found)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, "")
    if not isinstance(value, str):
        from duxnet.process.errors import ConfigurationError

        raise ConfigurationError([f"{name}: {value!r} is not accepted: must be text"])
    return value


def _path(agent: Mapping[str, Any], name: str) -> str:
    value = _text(agent, name)
    return os.path.abspath(os.path.expanduser(value)) if value else ""  # noqa: PTH100, PTH111 - pathlib costs 3 ms


def _with_environment(agent: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """`DUXNET_AGENT__WORK_DIR`, `DUXNET_AGENT__RESERVE__CPUS` … over what the file says; names in any case."""
    for variable, text in environ.items():
        if not variable.upper().startswith(_PREFIX):
            continue
        section, _, key = variable[len(_PREFIX) :].lower().partition("__")
        if section in ("work_dir", "state_dir") and not key:
            agent[section] = text
        elif section in ("reserve", "override"):
            table = _table(agent, section)
            agent[section] = {**table, key: _value(text)} if key else {**table, **_value(text)}
    return agent


def _value(text: str) -> Any:
    """A number, true, false or a map in JSON's writing; any other text is itself."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text
