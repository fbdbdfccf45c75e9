"""Settings from flag, environment, TOML file and default, validated once at start and then passed down as values.

Here: where values come from, which one wins, and errors that say so. Each process brings its own sections (a
pydantic model each), so that an agent never loads the coordinator's. A section that belongs to another part of
the project may stand in the same file; any other unknown name is an error.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from duxnet.process.config_file import find_config_file, read_config_file
from duxnet.process.errors import ConfigurationError
from registry_core.errors import ValidationError as RecordError
from registry_core.errors import shown

__all__ = ["PROJECT_SECTIONS", "Number", "PathText", "Section", "Settings", "Whole", "flattened", "load_settings"]

# Every section that some part of the project reads. One that this process does not read is left alone.
PROJECT_SECTIONS = ("agent", "coordinator", "log", "registry")

ENV_PREFIX = "DUXNET_"
ENV_DELIMITER = "__"
MASK = "********"


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, NaN and infinity refused. Defaults are checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


S = TypeVar("S", bound=Section)


def _not_a_bool(value: Any) -> Any:
    """TOML's `true` is no number, although Python's is."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _path_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be a path without control characters")
    if not value.startswith("~"):
        return value
    try:
        return str(Path(value).expanduser())
    except RuntimeError:  # ~somebody, who is not known here
        raise ValueError("must begin with a home folder that is known here") from None


# The kinds of values that sections are made of, beside text and true or false.
Number = Annotated[float, BeforeValidator(_not_a_bool)]
Whole = Annotated[int, BeforeValidator(_not_a_bool)]
PathText = Annotated[str, AfterValidator(_path_text)]  # `~` is replaced; empty means "not set"


@dataclass(frozen=True)
class Settings:
    """The validated sections, and where each value came from (`origins`: dotted name → text; absent: default)."""

    sections: Mapping[str, Section]
    origins: Mapping[str, str]
    config_file: Optional[Path]

    def section(self, name: str, kind: type[S]) -> S:
        """The section `name`, which was loaded as a `kind`."""
        found = self.sections[name]
        assert isinstance(found, kind)
        return found

    def origin(self, dotted_name: str) -> str:
        """`default`, `flag`, `environment DUXNET_AGENT__PORT` or the path of the file."""
        inside = (text for name, text in self.origins.items() if name.startswith(f"{dotted_name}."))
        return self.origins.get(dotted_name) or next(inside, "default")

    def shown_values(self) -> dict[str, Any]:
        """Every setting by dotted name, secrets masked."""
        return {
            name: (MASK if value.get_secret_value() else "") if isinstance(value, SecretStr) else value
            for name, value in self._values().items()
        }

    def changed_since(self, before: Settings) -> list[str]:
        """The dotted names whose values differ, secrets too."""
        old = before._values()
        return [name for name, value in self._values().items() if old.get(name) != value]

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for section, model in self.sections.items():
            values.update(_leaves(model, section))
        return values


def load_settings(
    sections: Mapping[str, type[Section]],
    *,
    config: Optional[str] = None,
    flags: Optional[Mapping[str, object]] = None,
) -> Settings:
    """Read and validate `sections`. `flags` maps dotted names to what the command line gave (None: not given).

    Reads `os.environ` and the configuration file (`config`, else found: see `find_config_file`). Raises
    ConfigurationError with every problem found, each naming setting, value, rule and source.
    """
    path = find_config_file(config, os.environ)
    layers: list[tuple[str, dict[str, Any]]] = [("flag", _nested(flags or {}))]
    root = _root_model(sections)
    layers.append(("environment", _environment(root)))
    if path is not None:
        layers.append((str(path), _known_tables(read_config_file(path), sections, path)))
    origins = {name: _origin_text(label, name) for label, layer in reversed(layers) for name in flattened(layer)}
    try:
        settings = root(**_merged(layer for _, layer in reversed(layers)))
    except ValidationError as error:
        raise ConfigurationError([_problem(item, origins, sections) for item in error.errors()]) from None
    loaded = {name: getattr(settings, name) for name in sections}
    return Settings(loaded, origins, path)


def flattened(tree: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"agent": {"port": 1}} as {"agent.port": 1}, all the way down."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flattened(value, f"{parent}{key}."))
        else:
            flat[f"{parent}{key}"] = value
    return flat


def _leaves(model: BaseModel, parent: str) -> dict[str, Any]:
    """The settings of a section by dotted name; a free-form map (tags) is one setting."""
    flat: dict[str, Any] = {}
    for key in type(model).model_fields:
        value = getattr(model, key)
        flat.update(_leaves(value, f"{parent}.{key}") if isinstance(value, BaseModel) else {f"{parent}.{key}": value})
    return flat


class _Root(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER, extra="forbid", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library names these
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # the layers are merged before, because each value's origin is to be known


def _root_model(sections: Mapping[str, type[Section]]) -> type[_Root]:
    fields: dict[str, Any] = {name: (kind, kind()) for name, kind in sections.items()}
    return create_model("Configuration", __base__=_Root, **fields)


class _Environment(EnvSettingsSource):
    """Only names with a section and a setting: DUXNET_REGISTRY and DUXNET_CONFIG mean something else."""

    def _load_env_vars(self) -> Mapping[str, Optional[str]]:
        return {name: value for name, value in super()._load_env_vars().items() if ENV_DELIMITER in name}


def _environment(root: type[_Root]) -> dict[str, Any]:
    """What the environment says, as nested tables. A section that nobody reads is an error, as in the file."""
    from pydantic_settings import SettingsError

    for variable in os.environ:
        section, delimiter, _ = variable[len(ENV_PREFIX) :].partition(ENV_DELIMITER)
        if variable.upper().startswith(ENV_PREFIX) and delimiter and section.lower() not in PROJECT_SECTIONS:
            hint = _suggestion(section.lower(), PROJECT_SECTIONS)
            raise ConfigurationError([f"environment {shown(variable)}: there is no section {shown(section)}{hint}"])
    try:
        return _Environment(root)()
    except SettingsError as error:  # a table given as something that is not JSON
        raise ConfigurationError([f"environment: {' '.join(str(error).split())}: must be JSON"]) from None


def _known_tables(tables: dict[str, Any], sections: Mapping[str, type[Section]], path: Path) -> dict[str, Any]:
    """The tables that this process reads. Raises ConfigurationError for a name that no part of the project reads."""
    problems = []
    for name, table in tables.items():
        if name not in PROJECT_SECTIONS:
            hint = _suggestion(name, PROJECT_SECTIONS)
            problems.append(f"{shown(name)} is not a section{hint} (in {path})")
        elif not isinstance(table, dict):
            problems.append(f"{name}: {shown(table)} is not accepted: must be a table, [{name}] (in {path})")
    if problems:
        raise ConfigurationError(problems)
    return {name: table for name, table in tables.items() if name in sections}


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


def _origin_text(label: str, dotted_name: str) -> str:
    if label != "environment":
        return label
    parts = dotted_name.upper().split(".")
    present = {name.upper() for name in os.environ}
    names = [ENV_PREFIX + ENV_DELIMITER.join(parts[:count]) for count in range(len(parts), 0, -1)]
    return f"environment {next((name for name in names if name in present), names[0])}"  # a table may come as JSON


def _problem(error: Any, origins: Mapping[str, str], sections: Mapping[str, type[Section]]) -> str:
    """One line for one of pydantic's errors."""
    path = [str(part) for part in error["loc"]]
    name = ".".join(path)
    related = (
        text for known, text in origins.items() if f"{known}.".startswith(f"{name}.") or name.startswith(f"{known}.")
    )
    origin = next(related, None)
    source = f" ({origin})" if origin else ""
    if error["type"] == "extra_forbidden":
        known_keys = _keys_beside(path, sections)
        hint = _suggestion(path[-1], known_keys)
        return f"{ascii(name)[1:-1]} is not a setting{hint}{source}"
    refused = error.get("ctx", {}).get("error")
    if isinstance(refused, RecordError):  # the core's own check: it names what inside the setting is wrong
        inside = refused.field.partition(".")[2]
        return f"{name}{'.' if inside else ''}{inside}: {shown(refused.value)} is not accepted: {refused.rule}{source}"
    given = MASK if _is_secret(path, sections) else shown(error["input"])
    message = str(error["msg"]).replace("Input should be", "must be").replace("Value error, ", "")
    return f"{name}: {given} is not accepted: {message}{source}"


def _source_of(name: str, origins: Mapping[str, str]) -> str:
    """` (where it was set)` of a setting, or of what is inside or around it; empty for a default."""
    for known, text in origins.items():
        if f"{known}.".startswith(f"{name}.") or name.startswith(f"{known}."):
            return f" ({text})"
    return ""


def _keys_beside(path: list[str], sections: Mapping[str, type[Section]]) -> list[str]:
    return list(_fields_beside(path, sections))


def _is_secret(path: list[str], sections: Mapping[str, type[Section]]) -> bool:
    """Whether the setting at `path` holds a secret, whatever was given for it."""
    field = _fields_beside(path, sections).get(path[-1])
    return field is not None and field.annotation is SecretStr


def _fields_beside(path: list[str], sections: Mapping[str, type[Section]]) -> Mapping[str, Any]:
    """The settings of the table that holds the last part of `path`."""
    model: Any = sections.get(path[0])
    for part in path[1:-1]:
        field = model.model_fields.get(part)
        model = field.annotation if field is not None else None
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return fields


def _suggestion(given: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(given, names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""
