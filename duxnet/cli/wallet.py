"""`duxnet wallet`: what a wallet signs to vouch for a node, and the taking in of its signature."""

from __future__ import annotations

from typing import Optional

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.query_options import with_registry
from duxnet.process.terminal import say, say_text

__all__ = ["wallet"]


@click.group("wallet", cls=SuggestingGroup)
def wallet() -> None:
    """Prove that a node belongs to the wallet that it names.

    Print the message, sign it with the wallet (personal_sign, EIP-191) wherever its key is, attach the signature.
    An ID may be shortened to its beginning as long as only one node's begins so.
    """


@wallet.command("message")
@click.argument("node_id", metavar="ID")
@with_registry
def message_command(node_id: str, registry: Optional[str], config: Optional[str]) -> int:
    """Print what the wallet must sign: two lines, without the line end after the second."""
    from duxnet.cli.registry_client import RegistryClient, find_target, whole_id
    from registry_core.errors import UnknownNodeError
    from registry_core.identity.wallets import proof_message

    with RegistryClient.opened(find_target(registry, config), read_only=True) as client:
        whole = whole_id(client.registry, node_id)
        if client.registry.get_node(whole) is None:
            raise UnknownNodeError(whole)
        say_text(proof_message(whole))
    return 0


@wallet.command("attach")
@click.argument("node_id", metavar="ID")
@click.argument("signature")
@with_registry
def attach_command(node_id: str, signature: str, registry: Optional[str], config: Optional[str]) -> int:
    """Check the SIGNATURE (0x and 130 hexadecimal digits) of the node's wallet, and keep it.

    The faults of other nodes that proved the same wallet come along. Checking takes the extra `ethereum`, where the
    registry is.
    """
    from duxnet.cli.registry_client import RegistryClient, find_target, whole_id

    with RegistryClient.opened(find_target(registry, config), read_only=False) as client:
        whole = whole_id(client.registry, node_id)
        client.registry.admin.attach_wallet(whole, signature, actor="duxnet wallet")
        reputation = client.registry.get_reputation(whole)
        say(f"{whole}: wallet proven; standing {reputation.standing}, reputation {reputation.score:.2f}")
    return 0
