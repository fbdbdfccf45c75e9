"""`duxnet wallet`: prints the message that a wallet signs for a node, and attaches the signature."""

from __future__ import annotations

import click

from duxnet.cli.group import SuggestingGroup
from duxnet.cli.options import Opener, with_registry
from duxnet.process.terminal import say, say_text

__all__ = ["wallet"]


@click.group("wallet", cls=SuggestingGroup)
def wallet() -> None:
    """Prove that a node belongs to the wallet that it names.

    Print the message, sign it where the wallet's key is (personal_sign, EIP-191), and attach the signature. An ID may
    be shortened to its first four characters or more, if no other id begins with them.
    """


@wallet.command("message")
@click.argument("node_id", metavar="ID")
@with_registry
def message_command(node_id: str, opened: Opener) -> int:
    """Print the message that the wallet must sign.

    The message is two lines, without the line end of the second.
    """
    from registry_core.identity.wallets import proof_message

    with opened(read_only=True) as client:
        say_text(proof_message(client.node(node_id).id))
    return 0


@wallet.command("attach")
@click.argument("node_id", metavar="ID")
@click.argument("signature")
@with_registry
def attach_command(node_id: str, signature: str, opened: Opener) -> int:
    """Check the wallet's signature and keep it.

    SIGNATURE is 0x and 130 hexadecimal digits. The node then shares the failures of all nodes with the same proven
    wallet. The check needs the extra `ethereum` where the registry is.
    """
    with opened(read_only=False) as client:
        whole = client.whole_id(node_id)
        client.registry.admin.attach_wallet(whole, signature, actor="duxnet wallet")
        reputation = client.registry.get_reputation(whole)
        say(f"{whole}: wallet proven; standing {reputation.standing}, reputation {reputation.score:.2f}")
    return 0
