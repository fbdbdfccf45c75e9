"""Nodes as JSON text, made once for each snapshot: lists ask for the same best nodes again and again.

Here: keeping and forgetting. A snapshot never changes, so the same object has the same text.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from registry_core.models.addresses import WITHHELD_ADDRESS, is_destination
from registry_core.models.encoding import node_to_plain
from registry_core.models.node import Node

__all__ = ["EncodedNode", "EncodedNodes", "plain_node"]

MOST_KEPT = 8192
"""Texts kept, about 1 KiB each, beside the snapshots they were made of."""


class EncodedNode(NamedTuple):
    """A node as JSON text, to stand in an answer, and a digest of the text."""

    node: Node
    text: msgspec.Raw
    digest: bytes


class EncodedNodes:
    """The texts of the snapshots that were asked for lately. Belongs to the event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], EncodedNode] = {}

    def of(self, node: Node, with_addresses: bool) -> EncodedNode:
        """The node's text, made now or kept from before."""
        key = (node.id, with_addresses)
        found = self._kept.get(key)
        if found is not None and found.node is node:
            return found
        text = msgspec.json.encode(plain_node(node, with_addresses))
        digest = hashlib.blake2b(text, digest_size=16).digest()
        made = EncodedNode(node, msgspec.Raw(text), digest)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[key] = made
        return made


def plain_node(node: Node, with_addresses: bool) -> dict[str, object]:
    """The node's JSON map, with or without where it can be reached. An address that is none for others is left out."""
    plain = node_to_plain(node)
    if not with_addresses:
        del plain["ip_address"], plain["addresses"]
        return plain
    if not is_destination(node.ip_address):
        plain["ip_address"] = WITHHELD_ADDRESS
    plain["addresses"] = [address for address in node.addresses if is_destination(address)]
    return plain
