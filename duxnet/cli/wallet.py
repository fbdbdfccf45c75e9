"""`duxnet wallet`: what a wallet signs to vouch for a node, and the taking in of its signature."""

from __future__ import annotations

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import Opener, with_registry
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
def message_command(node_id: str, opened: Opener) -> int:
    """Print what the wallet must sign: two lines, without the line end after the second."""
    from registry_core.identity.wallets import proof_message

    with opened(read_only=True) as client:
        say_text(proof_message(client.node(node_id).id))
    return 0


@wallet.command("attach")
@click.argument("node_id", metavar="ID")
@click.argument("signature")
@with_registry
def attach_command(node_id: str, signature: str, opened: Opener) -> int:
    """Check the SIGNATURE (0x and 130 hexadecimal digits) of the node's wallet, and keep it.

    The faults of other nodes that proved the same wallet come along. Checking takes the extra `ethereum`, where the
    registry is.
    """

    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        client.registry.admin.attach_wallet(whole, signature, actor="duxnet wallet")
        reputation = client.registry.get_reputation(whole)
        say(f"{whole}: wallet proven; standing {reputation.standing}, reputation {reputation.score:.2f}")
    return 0
