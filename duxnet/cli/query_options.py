"""The options by which commands ask for nodes that meet every condition, and the query that they ask.

Here: conditions of a node alone. Not here: order and pages, which are `nodes list`'s own.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Callable

import click

if TYPE_CHECKING:
    from registry_core.query.node_query import NodeQuery

__all__ = ["key_and_value", "query_of", "with_conditions", "with_registry"]

_CONDITIONS = (
    click.option("--min-reputation", type=float, default=0.0, help="At least this score, 0 to 5."),
    click.option("--healthy", is_flag=True, help="Only nodes that may get work now."),
    click.option("--min-cpu-cores", type=int, default=0, help="At least so many usable CPUs."),
    click.option("--min-memory-gb", type=float, default=0.0, help="At least so much memory (GB, 10^9 bytes)."),
    click.option("--min-storage-gb", type=float, default=0.0, help="At least so much storage (GB, 10^9 bytes)."),
    click.option("--gpu", is_flag=True, help="Only nodes with a usable GPU."),
    click.option("--wallet", help="Only nodes of this wallet."),
    click.option("--gpu-count", type=int, help="At least so many usable GPUs, each as the next three ask."),
    click.option("--gpu-vendor", help="GPUs of this vendor."),
    click.option("--gpu-model", help="GPUs with this in the name of their model."),
    click.option("--gpu-memory-gb", type=float, help="GPUs with at least so much memory each."),
    click.option(
        "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Only nodes with this tag; several times: all."
    ),
    click.option("--exclude", multiple=True, metavar="ID", help="Not this node; may be given several times."),
    click.option(
        "--min-uptime-probability",
        type=float,
        default=0.0,
        help="Nodes that stay for the next 6 hours with at least this probability, 0 to 1.",
    ),
)


def with_conditions(command: Callable[..., int]) -> Callable[..., int]:
    """All of them; the command gets them as `**asked`, for `query_of`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_CONDITIONS), command)


def query_of(asked: dict[str, Any]) -> NodeQuery:
    """The question that the options ask, with the order and the page where the command has options for them."""
    from registry_core.models.node import NodeCapabilities
    from registry_core.query.node_query import GpuDemand, NodeQuery

    least = NodeCapabilities(
        cpu_cores=asked["min_cpu_cores"],
        memory_gb=asked["min_memory_gb"],
        storage_gb=asked["min_storage_gb"],
        gpu_enabled=asked["gpu"],
    )
    named = {name: asked[f"gpu_{name}"] for name in ("count", "vendor", "model", "memory_gb")}
    given = {name: value for name, value in named.items() if value is not None}
    return NodeQuery(
        min_reputation=asked["min_reputation"],
        only_healthy=asked["healthy"],
        min_capabilities=None if least == NodeCapabilities() else least,
        wallet_address=asked["wallet"],
        gpus=GpuDemand(**given) if given else None,
        tags=dict(key_and_value(tag) for tag in asked["tags"]),
        exclude=asked["exclude"],
        min_uptime_probability=asked["min_uptime_probability"],
        **{name: asked[name] for name in ("order", "seed", "limit", "after") if name in asked},
    )


def key_and_value(text: str) -> tuple[str, str]:
    """A tag."""
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!a} is not KEY=VALUE", param_hint="--tag")
    return key, value


_registry = click.option(
    "--registry",
    metavar="PATH-or-URL",
    help="Default: $DUXNET_REGISTRY, then the configuration, then the agent on this machine.",
)
_config = click.option("--config", metavar="FILE", help="Configuration file; it must be there.")


def with_registry(command: Callable[..., int]) -> Callable[..., int]:
    """`--registry` and `--config`."""
    return _registry(_config(command))
