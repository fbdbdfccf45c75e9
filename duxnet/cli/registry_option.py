"""The two options by which every command that opens a registry finds it."""

from __future__ import annotations

from typing import Callable

import click

__all__ = ["with_registry"]

_registry = click.option(
    "--registry",
    metavar="PATH-or-URL",
    help="Default: $DUXNET_REGISTRY, then the configuration, then the agent on this machine.",
)
_config = click.option("--config", metavar="FILE", help="Configuration file; it must be there.")


def with_registry(command: Callable[..., int]) -> Callable[..., int]:
    """`--registry` and `--config`."""
    return _registry(_config(command))
