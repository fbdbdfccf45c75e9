"""The sections [agent] and [registry]: the operator's settings for this node, checked once at start.

`config.example.toml` lists every default. Empty text and 0 mean "not set".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional, Union

from pydantic import Field, SecretStr, field_validator

from agent.open_registry import check_target
from agent.probe.options import ProbeOptions, options_of, override_value
from duxnet.process.folders import default_state_folder
from duxnet.process.settings import LogSettings, Number, PathText, Section, Settings, Whole, load_settings
from registry_core.identity.tokens import checked_token
from registry_core.models import limits

__all__ = ["AGENT_SECTIONS", "AgentSettings", "RegistrySettings", "ReserveSettings", "load_agent_settings"]

SHORTEST_INTERVAL_SECONDS = 0.1  # for tests; in production a few seconds are short enough
LONGEST_INTERVAL_SECONDS = 900.0  # agreed with every registry: longer silence is an outage


class ReserveSettings(Section):
    """[agent.reserve]: resources that are not offered. GB is 10⁹ bytes."""

    cpus: Annotated[Whole, Field(ge=0, le=limits.MAX_CPUS)] = 0
    memory_gb: Annotated[Number, Field(ge=0, le=limits.MAX_MEMORY_GB)] = 0.0
    storage_gb: Annotated[Number, Field(ge=0, le=limits.MAX_STORAGE_GB)] = 0.0


class AgentSettings(Section):
    """[agent]: the identity of this node and how often it reports."""

    interval_seconds: Annotated[Number, Field(ge=SHORTEST_INTERVAL_SECONDS, le=LONGEST_INTERVAL_SECONDS)] = 15.0
    state_dir: PathText = ""
    work_dir: PathText = ""
    wallet_address: str = ""
    port: Annotated[Whole, Field(ge=0, le=65535)] = 0
    tags: dict[str, str] = Field(default={})
    reserve: ReserveSettings = ReserveSettings()
    override: dict[str, Union[bool, int, float, str]] = Field(default={})

    @field_validator("wallet_address")
    @classmethod
    def _wallet(cls, value: str) -> str:
        return limits.displayable("wallet_address", value, "wallet_address")

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > limits.MAX_TAGS:
            raise ValueError(f"must hold at most {limits.MAX_TAGS} tags")
        for key, tag in value.items():
            limits.displayable("tags", key, "tag key", empty=False)
            limits.displayable(f"tags.{key}", tag, "tag value")
        return value

    @field_validator("override")
    @classmethod
    def _override(cls, value: dict[str, Union[bool, int, float, str]]) -> dict[str, Union[bool, int, float, str]]:
        checked = {name: override_value(given) for name, given in value.items()}
        ProbeOptions(overrides=checked)
        return checked

    def state_path(self, environ: Mapping[str, str]) -> Path:
        """The folder of the key, the id and the embedded registry: as set, else systemd's, else the user's."""
        if self.state_dir:
            return Path(self.state_dir).absolute()
        return Path(default_state_folder(environ))

    def probe_options(self, environ: Mapping[str, str], registry_target: str = "") -> ProbeOptions:
        """The options of the probe: the work directory (default: the state directory), reserve and overrides."""
        return options_of(self.model_dump(), registry_target, default_state_folder(environ))


class RegistrySettings(Section):
    """[registry]: where this node is registered, and the registry that the command line queries by default."""

    target: PathText = ""
    encryption_key_file: PathText = ""
    token: SecretStr = SecretStr("")
    join_token: SecretStr = SecretStr("")
    coordinator_id: str = ""
    ca_file: PathText = ""
    allow_plaintext: bool = False
    proxy: SecretStr = SecretStr("")  # it may contain a password

    @field_validator("target")
    @classmethod
    def _target(cls, value: str) -> str:
        if value:
            check_target(value)
        return value

    @field_validator("token", "join_token")
    @classmethod
    def _token(cls, value: SecretStr) -> SecretStr:
        return SecretStr(checked_token("token", value.get_secret_value()))

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            from registry_core.remote.options import checked_proxy  # loads httpx, which few settings need

            checked_proxy("proxy", value.get_secret_value())
        return value

    def remote_options(self) -> dict[str, Any]:
        """The arguments of `RemoteOptions` that these settings give."""
        return {
            "token": self.token.get_secret_value(),
            "join_token": self.join_token.get_secret_value(),
            "coordinator_id": self.coordinator_id,
            "ca_file": self.ca_file or None,
            "allow_plaintext": self.allow_plaintext,
            "proxy": self.proxy.get_secret_value(),
        }

    def key_path(self) -> Optional[Path]:
        """The path of the key file, if one is set."""
        return Path(self.encryption_key_file).absolute() if self.encryption_key_file else None


AGENT_SECTIONS: dict[str, type[Section]] = {"agent": AgentSettings, "registry": RegistrySettings, "log": LogSettings}


def load_agent_settings(config: Optional[str] = None, flags: Optional[Mapping[str, object]] = None) -> Settings:
    """The validated settings of an agent. Raises ConfigurationError."""
    return load_settings(AGENT_SECTIONS, config=config, flags=flags)
