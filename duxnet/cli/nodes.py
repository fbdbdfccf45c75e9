"""`duxnet nodes`: what a registry holds, for people and programs, and changes to it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.nodes_admin import OPERATE
from duxnet.cli.options import (
    Opener,
    format_option,
    key_and_value,
    query_of,
    with_conditions,
    with_order,
    with_registry,
)  # fmt: skip
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from registry_core.models.node import Node

__all__ = ["nodes"]


@click.group("nodes", cls=SuggestingGroup)
def nodes() -> None:
    """List, show and change the nodes of a registry.

    Beside a running agent the registry can be read; a change goes through the process that owns it.
    An ID may be shortened to its beginning as long as only one node's begins so.
    """


for _command in OPERATE:
    nodes.add_command(_command)


@nodes.command("list")
@with_registry
@format_option
@with_conditions
@with_order
@click.option("--limit", type=int, help="Show at most this many nodes.")
@click.option("--after", metavar="CURSOR", help="Go on behind an earlier answer: its `next`.")
def list_command(opened: Opener, output: str, limit: Optional[int], after: Optional[str], **given: Any) -> int:
    """The nodes that meet every condition, best reputation first."""
    from duxnet.cli.node_output import print_nodes

    query = query_of(given, limit, after)
    with opened(read_only=True) as client:
        page = client.find(query)
        print_nodes(page.nodes, page.next, client, output)
        if page.degraded:
            say("many nodes fell silent at once: until that is over the registry calls none down", err=True)
        if page.damaged:
            named = "its log names them, and so does `duxnet registry verify`"
            say(f"{page.damaged} left out: what the registry keeps of them is damaged; {named}", err=True)
    return 0


@nodes.command("show")
@click.argument("node_id", metavar="ID")
@with_registry
@format_option
def show_command(node_id: str, opened: Opener, output: str) -> int:
    """Everything about one node."""
    from duxnet.cli.node_output import print_node

    with opened(read_only=True) as client:
        print_node(client.with_newest_health(client.node(node_id)), client, output)
    return 0


@nodes.command("register")
@click.option("--from", "source", metavar="FILE", help="The node as JSON, as `nodes show` prints it; - reads stdin.")
@click.option("--ip-address", metavar="ADDRESS", help="Where the node is reached.")
@click.option("--id", "node_id", help="Default: a random one. A known id updates that node.")
@click.option("--wallet", help="The wallet that it belongs to.")
@click.option("--hostname")
@click.option("--port", type=int)
@click.option("--cpu-cores", type=int)
@click.option("--memory-gb", type=float)
@click.option("--storage-gb", type=float)
@click.option("--gpu", is_flag=True, help="It has a usable GPU.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@with_registry
def register_command(source: Optional[str], opened: Opener, **given: Any) -> int:
    """Take a node in, or update the description of one, and print its id."""
    node = _described(source, given)
    with opened(read_only=False) as client:
        say(client.registry.register_node(node))
    return 0


@nodes.command("update-health")
@click.argument("node_id", metavar="ID")
@click.option("--load-average", type=float, help="1-minute load of the host.")
@click.option("--memory-usage", type=float, help="Percent, 0 to 100.")
@click.option("--disk-usage", type=float, help="Percent, 0 to 100.")
@with_registry
def update_health_command(
    node_id: str,
    load_average: Optional[float],
    memory_usage: Optional[float],
    disk_usage: Optional[float],
    opened: Opener,
) -> int:
    """Record a sample. A gauge that is left out was not measured."""

    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        health = client.registry.update_node_health(whole, load_average, memory_usage, disk_usage)
        conditions = health.conditions
        say(f"{whole}: load {conditions.load}, memory {conditions.memory}, disk {conditions.disk}")
    return 0


@nodes.command("update-reputation")
@click.argument("node_id", metavar="ID")
@click.option("--success/--failure", "task_success", default=None, help="How the task ended.")
@click.option("--task-id", help="The task's name: told again, it counts once.")
@click.option("--weight", type=float, default=1.0, help="Above 0, at most 5: a result proven wrong. Default 1.")
@click.option("--rater", metavar="ID", help="The node whose opinion this is. Default: you verified it yourself.")
@with_registry
def update_reputation_command(
    node_id: str,
    task_success: Optional[bool],
    task_id: Optional[str],
    weight: float,
    rater: Optional[str],
    opened: Opener,
) -> int:
    """Record how one task ended, and print the new score."""

    if task_success is None:
        raise click.UsageError("say how the task ended: --success or --failure")
    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        reputation = client.registry.update_node_reputation(
            whole, task_success, task_id=task_id, weight=weight, rater=rater
        )
        say(f"{whole}: reputation {reputation.score:.2f}")
    return 0


@nodes.command("explain")
@click.argument("node_id", metavar="ID")
@with_registry
@format_option
@with_conditions
def explain_command(node_id: str, opened: Opener, output: str, **given: Any) -> int:
    """Why a node's reputation is what it is; with conditions of `list`: which of them it fails.

    What would mend each is said, too. Why it gets no work: --healthy.
    """
    from duxnet.cli.node_output import print_failing, print_reputation
    from registry_core.query.node_query import NodeQuery

    query = query_of(given)
    with opened(read_only=True) as client:
        whole = client.whole_id(node_id)
        if query == NodeQuery():
            print_reputation(whole, client.registry.get_reputation(whole), output)
        else:
            print_failing(whole, client.explain(whole, query), output)
    return 0


@nodes.command("remove")
@click.argument("node_id", metavar="ID")
@with_registry
def remove_command(node_id: str, opened: Opener) -> int:
    """Take a node out of the registry.

    One whose agent goes on registers again: have its operator stop it, or ban it first.
    """
    from registry_core.errors import UnknownNodeError

    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        if not client.registry.deregister_node(whole):
            raise UnknownNodeError(node_id)
        say(f"{whole}: removed")
    return 0


def _described(source: Optional[str], given: dict[str, Any]) -> Node:
    """The node that the options, or the JSON of `--from`, describe."""
    from registry_core.models.encoding import node_from_plain

    options = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    if source is not None:
        if options:
            raise click.UsageError("--from says everything: it goes with no other description")
        return node_from_plain(_read_json(source))
    if "ip_address" not in options:
        raise click.UsageError("--ip-address (or --from) is needed")
    tags = dict(key_and_value(tag) for tag in options.pop("tags", ()))
    capabilities = {name: options.pop(name) for name in ("cpu_cores", "memory_gb", "storage_gb") if name in options}
    capabilities["gpu_enabled"] = options.pop("gpu", False)
    names = {"node_id": "id", "wallet": "wallet_address"}
    plain = {names.get(name, name): value for name, value in options.items()}
    return node_from_plain({**plain, "capabilities": capabilities, "tags": tags})


def _read_json(source: str) -> object:
    import json
    from pathlib import Path

    largest = 1_000_000
    if source == "-":
        raw = sys.stdin.buffer.read(largest + 1)
    else:
        with Path(source).open("rb") as file:
            raw = file.read(largest + 1)
    if len(raw) > largest:
        raise click.UsageError(f"--from: more than {largest} bytes are not one node")
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--from: not valid JSON: {error}") from None
    return plain["node"] if isinstance(plain, dict) and "node" in plain else plain
