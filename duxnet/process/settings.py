"""Settings, validated once at start and then passed on as values.

Here: the validation of what `layers` reads, and errors that name setting, value, rule and source. Each process defines
its own sections (a pydantic model each), so that an agent never loads those of the coordinator.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from duxnet.process.errors import ConfigurationError
from duxnet.process.layers import path_text, read_layers, setting_text, suggestion
from registry_core.errors import ValidationError as RecordError

__all__ = ["LogSettings", "Number", "PathText", "Section", "Settings", "Whole", "load_settings"]

MASK = "********"


class Section(BaseModel):
    """Base of every section. It is frozen and refuses unknown keys, NaN and infinity. Defaults are checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


S = TypeVar("S", bound=Section)


def _not_a_bool(value: Any) -> Any:
    """In TOML `true` is not a number, although it is one in Python."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


# The kinds of values that sections are made of, beside text and true or false.
Number = Annotated[float, BeforeValidator(_not_a_bool)]
Whole = Annotated[int, BeforeValidator(_not_a_bool)]
PathText = Annotated[str, AfterValidator(path_text)]  # `~` is replaced; empty means "not set"


class LogSettings(Section):
    """[log]: the format and the level of log lines."""

    format: Literal["plain", "json"] = "plain"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True)
class Settings:
    """The validated sections and the origin of each value (`origins`: dotted name → text; absent for a default)."""

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
        """Every setting by its dotted name, with secrets masked."""
        return {
            name: (MASK if value.get_secret_value() else "") if isinstance(value, SecretStr) else value
            for name, value in self._values().items()
        }

    def changed_since(self, before: Settings) -> list[str]:
        """The dotted names whose values differ, including secrets."""
        old = before._values()
        return [name for name, value in self._values().items() if old.get(name) != value]

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for section, model in self.sections.items():
            values.update(_leaves(model, section))
        return values


def load_settings(
    sections: Mapping[str, type[Section]], *, config: Optional[str] = None, flags: Optional[Mapping[str, object]] = None
) -> Settings:
    """Read and validate `sections`; `config` and `flags` as in `read_layers`. Reads `os.environ`.

    Raises ConfigurationError with every problem found, each naming setting, value, rule and source.
    """
    layers = read_layers(sections, os.environ, config=config, flags=flags)
    try:
        loaded = _root_model(sections)(**layers.values)
    except ValidationError as error:
        raise ConfigurationError([_problem(item, layers.origins, sections) for item in error.errors()]) from None
    return Settings({name: getattr(loaded, name) for name in sections}, layers.origins, layers.config_file)


def _leaves(model: BaseModel, parent: str) -> dict[str, Any]:
    """The settings of a section by dotted name. A free-form map (tags) is one setting."""
    flat: dict[str, Any] = {}
    for key in type(model).model_fields:
        value = getattr(model, key)
        flat.update(_leaves(value, f"{parent}.{key}") if isinstance(value, BaseModel) else {f"{parent}.{key}": value})
    return flat


class _Root(BaseSettings):
    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(cls, *_settings_cls: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (sources["init_settings"],)  # merged by `read_layers`, which remembers where each value came from


def _root_model(sections: Mapping[str, type[Section]]) -> type[_Root]:
    fields: dict[str, Any] = {name: (kind, kind()) for name, kind in sections.items()}
    return create_model("Configuration", __base__=_Root, **fields)


def _problem(error: Any, origins: Mapping[str, str], sections: Mapping[str, type[Section]]) -> str:
    """The text for one of pydantic's errors."""
    path = [str(part) for part in error["loc"]]
    name = ".".join(path)
    related = (
        text for known, text in origins.items() if f"{known}.".startswith(f"{name}.") or name.startswith(f"{known}.")
    )
    origin = next(related, None)
    source = f" ({origin})" if origin else ""
    if error["type"] == "extra_forbidden":
        hint = suggestion(path[-1], _fields_beside(path, sections))
        return f"{ascii(name)[1:-1]} is not a setting{hint}{source}"
    refused = error.get("ctx", {}).get("error")
    if isinstance(refused, RecordError):  # from a check of the core, which names the wrong part of the setting
        inside = refused.field.partition(".")[2]
        whole = f"{name}.{inside}" if inside else name
        return f"{whole}: {setting_text(refused.value)} is not accepted: {refused.rule}{source}"
    field = _fields_beside(path, sections).get(path[-1])
    message = str(error["msg"]).replace("Input should be", "must be").replace("Value error, ", "")
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # a rule for several settings of a table
        return f"{name}: {message}{source}"
    given = MASK if field is not None and field.annotation is SecretStr else setting_text(error["input"])
    return f"{name}: {given} is not accepted: {message}{source}"


def _fields_beside(path: list[str], sections: Mapping[str, type[Section]]) -> Mapping[str, Any]:
    """The settings of the table that holds the last part of `path`."""
    model: Any = sections.get(path[0])
    for part in path[1:-1]:
        field = model.model_fields.get(part)
        model = field.annotation if field is not None else None
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return fields
