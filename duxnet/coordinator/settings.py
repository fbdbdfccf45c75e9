"""The section [coordinator]: where it listens, which nodes may join, how often they report. Checked once at start.

`config.example.toml` lists every default. Empty text and 0 mean "not set".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

from pydantic import Field, field_validator, model_validator

from duxnet.process.folders import default_state_folder
from duxnet.process.settings import Number, PathText, Section, Whole
from registry_core.models.addresses import is_loopback

__all__ = ["CoordinatorSettings", "Network"]

_HOST_NAME = re.compile(r"(?:\*\.)?[0-9A-Za-z_](?:[0-9A-Za-z_-]|\.(?!\.))*", re.ASCII)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class CoordinatorSettings(Section):
    """[coordinator]"""

    host: str = "127.0.0.1"
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8410
    state_dir: PathText = ""
    registry: PathText = ""
    encryption_key_file: PathText = ""
    join: Literal["", "open", "token", "approval"] = ""
    tls_certificate: PathText = ""
    tls_key: PathText = ""
    hosts: list[str] = Field(default=[])
    proxies: list[str] = Field(default=[])
    public_network: bool = False
    show_addresses: bool = False
    low_ports: bool = False
    heartbeats_per_second: Annotated[Number, Field(gt=0, le=1_000_000)] = 2000.0
    shortest_interval_seconds: Annotated[Number, Field(ge=0.05, le=900)] = 5.0
    longest_interval_seconds: Annotated[Number, Field(ge=0.05, le=900)] = 900.0
    retention_hours: Annotated[Number, Field(gt=0, le=24 * 3650)] = 72.0
    session_hours: Annotated[Number, Field(gt=0, le=24 * 365)] = 24.0
    registrations_at_once: Annotated[Whole, Field(ge=1, le=10_000)] = 64
    nodes_at_most: Annotated[Whole, Field(ge=0)] = 100_000
    new_nodes_per_minute: Annotated[Whole, Field(ge=0)] = 600
    nodes_per_address: Annotated[Whole, Field(ge=0)] = 0
    nodes_per_network: Annotated[Whole, Field(ge=0)] = 0
    nodes_per_wallet: Annotated[Whole, Field(ge=0)] = 0

    @field_validator("proxies")
    @classmethod
    def _proxies(cls, value: list[str]) -> list[str]:
        for item in value:
            ipaddress.ip_network(item)
        return value

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        for item in value:
            if not _HOST_NAME.fullmatch(item):
                raise ValueError(f"{item!a} is not a host name without a port; *.example.org stands for one more label")
        return value

    @model_validator(mode="after")
    def _agree(self) -> CoordinatorSettings:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("tls_certificate and tls_key must be set together")
        if self.shortest_interval_seconds > self.longest_interval_seconds:
            raise ValueError("shortest_interval_seconds must be at most longest_interval_seconds")
        if not is_loopback(self.host) and not self.tls_certificate and not self.proxies:
            raise ValueError(
                "a host other than this machine needs TLS (tls_certificate and tls_key) "
                "or a proxy that is named in proxies"
            )
        return self

    @property
    def join_policy(self) -> str:
        """The `join` setting; by default `open` on this machine only, else `token`."""
        return self.join or ("open" if is_loopback(self.host) and not self.proxies else "token")

    def proxy_networks(self) -> tuple[Network, ...]:
        """The networks whose forwarding headers are trusted."""
        return tuple(ipaddress.ip_network(item) for item in self.proxies)

    def state_path(self, environ: Mapping[str, str]) -> Path:
        """The folder of key, tokens, audit log and registry: the setting, or systemd's, or the user's."""
        if self.state_dir:
            return Path(self.state_dir).absolute()
        return Path(default_state_folder(environ, "duxnet-coordinator"))

    def key_path(self) -> Optional[Path]:
        """The file with the registry's encryption keys, or None."""
        return Path(self.encryption_key_file).absolute() if self.encryption_key_file else None

    def registry_path(self, environ: Mapping[str, str]) -> Path:
        """The registry's file. Its suffix selects the format."""
        given = Path(self.registry or "nodes.db")
        return given if given.is_absolute() else self.state_path(environ) / given
