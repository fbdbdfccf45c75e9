"""`duxnet nodes`: shows the nodes of a registry, to people and programs, and changes them."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

import click

from duxnet.cli.group import SectionOption, SuggestingGroup
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

    A registry that a running agent has open can be read but not changed. At a coordinator, a change needs the token of
    an operator. An ID may be shortened to its first four characters or more, if no other id begins with them.
    """


for _command in OPERATE:
    nodes.add_command(_command)


@nodes.command("list")
@with_conditions
@with_order
@with_registry
@format_option
def list_command(opened: Opener, output: str, limit: Optional[int], after: Optional[str], **given: Any) -> int:
    """List the nodes that meet every condition.

    The nodes with the best reputation come first.
    """
    from duxnet.cli.node_output import print_nodes

    query = query_of(given, limit, after)
    with opened(read_only=True) as client:
        page = client.find(query)
        print_nodes(page.nodes, page.next, client, output)
        if page.degraded:
            say("many nodes went silent at once; until they recover, none is marked down", err=True)
        if page.damaged:
            nodes_are = "1 node is" if page.damaged == 1 else f"{page.damaged} nodes are"
            say(f"{nodes_are} left out with damaged records; `duxnet registry verify` names them", err=True)
    return 0


@nodes.command("show")
@click.argument("node_id", metavar="ID")
@with_registry
@format_option
def show_command(node_id: str, opened: Opener, output: str) -> int:
    """Show everything about one node."""
    from duxnet.cli.node_output import print_node

    with opened(read_only=True) as client:
        print_node(client.with_newest_health(client.node(node_id)), client, output)
    return 0


_description = partial(click.option, cls=SectionOption, section="The node")


@nodes.command("register")
@_description(
    "--from",
    "source",
    metavar="FILE",
    help="Read the node from this JSON file, as `nodes show` prints it; - is standard input.",
)
@_description("--ip-address", metavar="ADDRESS", help="The address at which others reach the node.")
@_description("--id", "node_id", metavar="ID", help="The id; a known id updates that node. Default: random.")
@_description("--wallet", metavar="WALLET", help="The wallet that the node belongs to.")
@_description("--hostname", metavar="NAME", help="The name of the machine.")
@_description("--port", type=int, help="The port at which others reach the node.")
@_description("--cpu-cores", type=int, help="Number of usable CPUs.")
@_description("--memory-gb", type=float, help="Usable memory, in GB (10⁹ bytes).")
@_description("--storage-gb", type=float, help="Usable storage, in GB (10⁹ bytes).")
@_description("--gpu", is_flag=True, help="The node has a usable GPU.")
@_description("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the node (repeatable).")
@with_registry
def register_command(source: Optional[str], opened: Opener, **given: Any) -> int:
    """Register a node or update its description.

    Prints the id of the node.
    """
    node = _described(source, given)
    with opened(read_only=False) as client:
        say(client.registry.register_node(node))
    return 0


@nodes.command("update-health")
@click.argument("node_id", metavar="ID")
@click.option("--load-average", type=float, help="The 1-minute load average of the host.")
@click.option("--memory-usage", type=float, help="Used memory in percent, 0 to 100.")
@click.option("--disk-usage", type=float, help="Used storage in percent, 0 to 100.")
@with_registry
def update_health_command(
    node_id: str,
    load_average: Optional[float],
    memory_usage: Optional[float],
    disk_usage: Optional[float],
    opened: Opener,
) -> int:
    """Record a health sample of a node.

    A gauge that is left out counts as not measured.
    """
    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        health = client.registry.update_node_health(whole, load_average, memory_usage, disk_usage)
        conditions = health.conditions
        say(f"{whole}: load {conditions.load}, memory {conditions.memory}, disk {conditions.disk}")
    return 0


@nodes.command("update-reputation")
@click.argument("node_id", metavar="ID")
@click.option("--success/--failure", "task_success", default=None, help="Whether the task succeeded.")
@click.option("--task-id", help="The name of the task. The same name counts once.")
@click.option(
    "--weight",
    type=float,
    default=1.0,
    show_default=True,
    help="The weight of this outcome, above 0 and up to 5 for a result proven wrong.",
)
@click.option("--rater", metavar="ID", help="The node that reports this outcome. Default: you verified it yourself.")
@with_registry
def update_reputation_command(
    node_id: str,
    task_success: Optional[bool],
    task_id: Optional[str],
    weight: float,
    rater: Optional[str],
    opened: Opener,
) -> int:
    """Record the outcome of a task, and print the new score."""
    if task_success is None:
        raise click.UsageError("--success or --failure is missing")
    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        reputation = client.registry.update_node_reputation(
            whole, task_success, task_id=task_id, weight=weight, rater=rater
        )
        say(f"{whole}: reputation {reputation.score:.2f}")
    return 0


@nodes.command("explain")
@click.argument("node_id", metavar="ID")
@with_conditions
@with_registry
@format_option
def explain_command(node_id: str, opened: Opener, output: str, **given: Any) -> int:
    """Explain a node's reputation, or why a list leaves it out.

    Without conditions this explains the reputation. With conditions of `nodes list` it shows which of them the node
    fails and what would fix each. --healthy shows why a node gets no work.
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
    """Remove a node from the registry.

    If its agent is still running, the node registers again. Stop the agent first, or ban the node.
    """
    from registry_core.errors import UnknownNodeError

    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        if not client.registry.deregister_node(whole):
            raise UnknownNodeError(node_id)
        say(f"{whole}: removed")
    return 0


def _described(source: Optional[str], given: dict[str, Any]) -> Node:
    """The node that the options or the JSON of `--from` describe."""
    from registry_core.models.encoding import node_from_plain

    options = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    if source is not None:
        if options:
            raise click.UsageError("--from goes with no other description of the node")
        return node_from_plain(_read_json(source))
    if "ip_address" not in options:
        raise click.UsageError("--ip-address or --from is missing")
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
        raise click.UsageError(f"--from: the file must have at most {largest} bytes")
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--from: the file is not valid JSON: {error}") from None
    return plain["node"] if isinstance(plain, dict) and "node" in plain else plain
