"""`duxnet config`: checks the configuration and shows where each value comes from."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import config_option, format_option
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from duxnet.process.settings import Section, Settings

__all__ = ["SECTIONS", "config"]

# Every section of the project: name → module and model.
SECTIONS = {
    "agent": ("agent.settings", "AgentSettings"),
    "registry": ("agent.settings", "RegistrySettings"),
    "coordinator": ("duxnet.coordinator.settings", "CoordinatorSettings"),
    "log": ("duxnet.process.settings", "LogSettings"),
}


@click.group("config", cls=SuggestingGroup)
def config() -> None:
    """Check the configuration, or show where each value comes from.

    A value comes from the flag, else from the environment (DUXNET_SECTION__KEY), else from the file, else it is the
    default. The file is the one of --config, else $DUXNET_CONFIG, else ~/.config/duxnet/config.toml, else
    /etc/duxnet/config.toml.
    """


@config.command("check")
@click.argument("file", required=False)
def check(file: Optional[str]) -> int:
    """Check a configuration file and the environment.

    Without FILE this checks the file that the agent would read. The exit code is 78 if a setting is not accepted.
    """
    settings = _settings(file)
    say(f"{settings.config_file or 'no configuration file, defaults'}: ok")
    return 0


@config.command("show")
@config_option
@format_option
def show(config: Optional[str], output: str) -> int:
    """Show every setting, its value and where it comes from.

    Secrets are masked.
    """
    from duxnet.cli.output import print_json, print_table

    settings = _settings(config)
    values = settings.shown_values()
    if output == "json":
        plain = {name: {"value": value, "origin": settings.origin(name)} for name, value in values.items()}
        path = settings.config_file
        print_json({"schema": "duxnet.config/1.0", "file": None if path is None else str(path), "settings": plain})
        return 0
    rows = ((name, _as_toml(value), settings.origin(name)) for name, value in values.items())
    print_table(("SETTING", "VALUE", "FROM"), rows)
    return 0


def _settings(file: Optional[str]) -> Settings:
    from duxnet.process.settings import load_settings

    sections: dict[str, type[Section]] = {
        name: getattr(import_module(module), model) for name, (module, model) in SECTIONS.items()
    }
    return load_settings(sections, config=file)


def _as_toml(value: object) -> str:
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_as_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
