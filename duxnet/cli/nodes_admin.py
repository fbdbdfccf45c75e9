"""`duxnet nodes approve|probation|suspend|ban|cordon|uncordon`: what an operator decides about a node.

At a coordinator each needs the token of an operator (`[registry] token`, $DUXNET_REGISTRY__TOKEN).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

import click

from duxnet.cli.options import Opener, with_registry
from duxnet.process.terminal import say

if TYPE_CHECKING:
    from registry_core.contract import Admin

__all__ = ["OPERATE"]

ACTOR = "duxnet nodes"
_reason = click.option("--reason", default="", help="The reason, which the node and every reader see.")


def _order(node_id: str, opened: Opener, give: Callable[[Admin, str], None]) -> int:
    """Open the registry, give its `admin` the order, and print the new state of the node."""
    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        give(client.registry.admin, whole)
        node = client.node(whole)
        ready = "ready for work" if node.is_ready else "gets no work"
        say(f"{whole}: {node.admission}, {node.scheduling}; {ready}")
    return 0


def _admission(name: str, state: str, summary: str) -> click.Command:
    @click.command(name, help=summary)
    @click.argument("node_id", metavar="ID")
    @_reason
    @with_registry
    def command(node_id: str, reason: str, opened: Opener) -> int:
        from registry_core.models.status import Admission

        admission = Admission(state)
        return _order(
            node_id, opened, lambda admin, whole: admin.set_admission(whole, admission, reason=reason, actor=ACTOR)
        )

    return command


@click.command("cordon")
@click.argument("node_id", metavar="ID")
@_reason
@click.option("--until", metavar="TIME", help="Lift the cordon at this time, such as 2026-12-24T18:00:00Z.")
@with_registry
def cordon_command(node_id: str, reason: str, until: Optional[str], opened: Opener) -> int:
    """Give a node no new work until it is uncordoned."""
    from registry_core.models.times import time_from_text

    end = time_from_text("until", until)
    return _order(node_id, opened, lambda admin, whole: admin.cordon(whole, reason=reason, actor=ACTOR, until=end))


@click.command("uncordon")
@click.argument("node_id", metavar="ID")
@with_registry
def uncordon_command(node_id: str, opened: Opener) -> int:
    """Let a node get work again."""
    return _order(node_id, opened, lambda admin, whole: admin.uncordon(whole, actor=ACTOR))


OPERATE = [
    _admission("approve", "approved", "Let a node take part permanently."),
    _admission("probation", "probation", "Let a node take part on probation, as new nodes do."),
    _admission("suspend", "suspended", "Exclude a node until it is approved again."),
    _admission("ban", "banned", "Exclude a node permanently, even if it registers again."),
    cordon_command,
    uncordon_command,
]
