"""The sources of settings, merged but not yet validated: flags over environment over configuration file.

Here: where values come from, which one wins, and the check of section names. Not here: what a setting means and which
values it accepts (`settings`, and the pydantic model of each section). It imports nothing heavy, so that a command that
needs a few settings does not pay for the validation of all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from duxnet.process.errors import ConfigurationError
from duxnet.process.folders import config_file_candidates

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PROJECT_SECTIONS", "Layers", "path_text", "read_layers", "setting_text", "suggestion"]

PROJECT_SECTIONS = ("agent", "coordinator", "log", "registry")
"""Every section that some part of the project reads. A process ignores the sections that it does not read."""

ENV_PREFIX = "DUXNET_"
ENV_DELIMITER = "__"


class Layers(NamedTuple):
    """`values`: the merged tables. `origins`: dotted name → `flag`, `environment NAME` or the path of the file."""

    values: dict[str, Any]
    origins: dict[str, str]
    config_file: Optional[Path]

    def table(self, *names: str) -> dict[str, Any]:
        """The table at this place, empty if there is none. Raises ConfigurationError for any other value."""
        found: Any = self.values
        for depth, name in enumerate(names, 1):
            found = found.get(name, {})
            if not isinstance(found, dict):
                raise self.refused(".".join(names[:depth]), found, "must be a table")
        return dict(found)

    def text(self, section: str, name: str) -> str:
        """A setting that is text, empty if it is not set. Raises ConfigurationError for any other value."""
        found = self.table(section).get(name, "")
        if not isinstance(found, str):
            raise self.refused(f"{section}.{name}", found, "must be a valid string")
        return found

    def path(self, section: str, name: str) -> str:
        """As `text`, for a setting that is a path: `~` is replaced by `path_text`."""
        given = self.text(section, name)
        try:
            return path_text(given)
        except ValueError as error:
            raise self.refused(f"{section}.{name}", given, str(error)) from None

    def refused(self, name: str, value: object, rule: str) -> ConfigurationError:
        """The error for a setting: its dotted name, its value, the rule, and where the value comes from."""
        inside = (origin for known, origin in self.origins.items() if f"{known}.".startswith(f"{name}."))
        return ConfigurationError(
            [f"{name}: {setting_text(value)} is not accepted: {rule} ({next(inside, 'default')})"]
        )


def read_layers(
    sections: Collection[str],
    environ: Mapping[str, str],
    *,
    config: Optional[str] = None,
    flags: Optional[Mapping[str, object]] = None,
) -> Layers:
    """Read and merge `sections`. `flags` maps dotted names to values of the command line (None: not given).

    The file is `config`, else what `config_file.find_config_file` finds. Raises ConfigurationError.
    """
    path, file_tables = _from_file(sections, environ, config)
    environment, variables = _from_environment(sections, environ)
    layers = [(str(path), file_tables), ("environment", environment), ("flag", _nested(flags or {}))]
    origins = {name: label for label, layer in layers for name in _flattened(layer)}
    for name, label in origins.items():
        if label == "environment":
            origins[name] = f"environment {_variable_of(name, variables)}"
    return Layers(_merged(layer for _, layer in layers), origins, path)


def _flattened(tree: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"agent": {"port": 1}} as {"agent.port": 1}, at any depth."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flattened(value, f"{parent}{key}."))
        else:
            flat[f"{parent}{key}"] = value
    return flat


def path_text(value: str) -> str:
    """The path with the home folder for `~`; an empty path stays empty. Raises ValueError with the rule."""
    if not value.isprintable():
        raise ValueError("must be a path without control characters")
    if not value.startswith("~"):
        return value
    from pathlib import Path

    try:
        return str(Path(value).expanduser())
    except RuntimeError:  # ~name of an unknown user
        raise ValueError("must not begin with the home folder of an unknown user") from None


def setting_text(value: object) -> str:
    """The value of a setting for an error message, in the words of the configuration file."""
    from registry_core.errors import shown

    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)


def suggestion(given: str, known: Iterable[str]) -> str:
    """`; did you mean …?` for a similar name, else the list of known names."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(given, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; the known ones are {', '.join(sorted(names))}" if names else ""


def _from_file(
    sections: Collection[str], environ: Mapping[str, str], config: Optional[str]
) -> tuple[Optional[Path], dict[str, Any]]:
    """The file and the tables of it that this process reads. The reader is imported only if there is a file."""
    is_named = config is not None or environ.get("DUXNET_CONFIG")
    if not is_named and not any(os.access(candidate, os.F_OK) for candidate in config_file_candidates(environ)):
        return None, {}
    from duxnet.process.config_file import find_config_file, read_config_file

    path = find_config_file(config, environ)
    return (None, {}) if path is None else (path, _known_tables(read_config_file(path), sections, path))


def _known_tables(tables: dict[str, Any], sections: Collection[str], path: Path) -> dict[str, Any]:
    """The tables that this process reads. Raises ConfigurationError for an unknown section."""
    from registry_core.errors import shown

    problems = []
    for name, table in tables.items():
        if name not in PROJECT_SECTIONS:
            problems.append(f"{shown(name)} is not a section{suggestion(name, PROJECT_SECTIONS)} (in {path})")
        elif not isinstance(table, dict):
            problems.append(f"{name}: {setting_text(table)} is not accepted: must be a table, [{name}] (in {path})")
    if problems:
        raise ConfigurationError(problems)
    return {name: table for name, table in tables.items() if name in sections}


def _from_environment(sections: Collection[str], environ: Mapping[str, str]) -> tuple[dict[str, Any], Collection[str]]:
    """The tables from `DUXNET_SECTION__SETTING[__KEY]` variables, in any case, and the names of these variables.

    DUXNET_REGISTRY and DUXNET_CONFIG have no delimiter and are no settings. An unknown section is an error, as in the
    file. Values are text; the validation turns them into numbers.
    """
    tables: dict[str, Any] = {}
    variables = []
    for variable in sorted(environ, key=len):  # a whole table as JSON comes before one of its keys
        section, delimiter, rest = variable[len(ENV_PREFIX) :].partition(ENV_DELIMITER)
        if not variable.upper().startswith(ENV_PREFIX) or not delimiter:
            continue
        if section.lower() not in PROJECT_SECTIONS:
            from registry_core.errors import shown

            hint = suggestion(section.lower(), PROJECT_SECTIONS)
            raise ConfigurationError([f"environment {shown(variable)}: there is no section {shown(section)}{hint}"])
        if section.lower() not in sections:
            continue
        names = [section.lower(), *rest.lower().split(ENV_DELIMITER)]
        value: Any = environ[variable]
        if len(names) == 2 and value.lstrip().startswith(("{", "[")):
            value = _json_value(variable, value)
        for name in reversed(names):
            value = {name: value}
        tables = _merged([tables, value])
        variables.append(variable.upper())
    return tables, variables


def _json_value(variable: str, text: str) -> Any:
    """A table or a list in JSON. `[::1]` is not a list and stays text."""
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith("["):
            return text
        raise ConfigurationError(
            [f"environment {variable}: must be JSON"]
        ) from None  # without the value, which may be secret


def _variable_of(dotted_name: str, variables: Collection[str]) -> str:
    """The variable that sets this name: its own, or the one with the JSON of the table around it."""
    parts = dotted_name.upper().split(".")
    names = [ENV_PREFIX + ENV_DELIMITER.join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in variables), names[0])


def _nested(flags: Mapping[str, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in flags.items():
        if value is not None:
            section, _, key = dotted.partition(".")
            tree.setdefault(section, {})[key] = value
    return tree


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Later layers win, key by key inside tables."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both_tables = isinstance(below, dict) and isinstance(value, Mapping)
            result[key] = _merged([below, value]) if both_tables and isinstance(below, dict) else value
    return result
