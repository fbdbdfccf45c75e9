"""`duxnet wallet`: what a wallet signs to vouch for a node, and the taking in of its signature."""

from __future__ import annotations

from typing import Callable, Optional

import click

from duxnet.cli.group import SuggestingGroup

__all__ = ["wallet"]

_registry = click.option(
    "--registry",
    metavar="PATH-or-URL",
    help="Default: $DUXNET_REGISTRY, then the configuration, then the agent on this machine.",
)
_config = click.option("--config", metavar="FILE", help="Configuration file; it must be there.")


def _where(command: Callable[..., int]) -> Callable[..., int]:
    return _registry(_config(command))


@click.group("wallet", cls=SuggestingGroup)
def wallet() -> None:
    """Prove that a node belongs to the wallet that it names.

    Print the message, sign it with the wallet (personal_sign, EIP-191) wherever its key is, attach the signature.
    An ID may be shortened to its beginning as long as only one node's begins so.
    """


@wallet.command("message")
@click.argument("node_id", metavar="ID")
@_where
def message_command(node_id: str, registry: Optional[str], config: Optional[str]) -> int:
    """Print what the wallet must sign: two lines, without the line end after the second."""
    from duxnet.cli.desk import Desk, find_place, whole_id
    from registry_core.errors import UnknownNodeError
    from registry_core.identity.wallets import proof_message

    with Desk.opened(find_place(registry, config), read_only=True) as desk:
        whole = whole_id(desk.registry, node_id)
        if desk.registry.get_node(whole) is None:
            raise UnknownNodeError(whole)
        click.echo(proof_message(whole))
    return 0


@wallet.command("attach")
@click.argument("node_id", metavar="ID")
@click.argument("signature")
@_where
def attach_command(node_id: str, signature: str, registry: Optional[str], config: Optional[str]) -> int:
    """Check the SIGNATURE (0x and 130 hexadecimal digits) of the node's wallet, and keep it.

    The faults of other nodes that proved the same wallet come along. Checking takes the extra `ethereum`, where the
    registry is.
    """
    from duxnet.cli.desk import Desk, find_place, whole_id
    from registry_core.errors import NotSupportedError
    from registry_core.node_registry import NodeRegistry

    with Desk.opened(find_place(registry, config), read_only=False) as desk:
        whole = whole_id(desk.registry, node_id)
        if isinstance(desk.registry, NodeRegistry):
            desk.registry.admin.attach_wallet(whole, signature, actor="duxnet wallet")
        else:
            attach: Optional[Callable[[str, str], None]] = getattr(desk.registry, "attach_wallet", None)
            if attach is None:
                raise NotSupportedError("this registry takes no proof of a wallet")
            attach(whole, signature)
        reputation = desk.registry.get_reputation(whole)
        click.echo(f"{whole}: wallet proven; standing {reputation.standing}, reputation {reputation.score:.2f}")
    return 0
