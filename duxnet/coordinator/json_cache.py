"""A cache of nodes as JSON text, since most lists hold the same best nodes.

A snapshot never changes, so the same object has the same text.
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
"""Maximum number of cached texts, about 1 KiB each, plus the snapshots they were made from."""


class EncodedNode(NamedTuple):
    """A node as JSON text, ready to be put into an answer, and a digest of the text."""

    node: Node
    text: msgspec.Raw
    digest: bytes


class EncodedNodes:
    """The texts of the snapshots that were requested lately. Used only in the event loop."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], EncodedNode] = {}

    def of(self, node: Node, with_addresses: bool) -> EncodedNode:
        """Returns the node's text from the cache, or encodes it."""
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
    """Returns the node's JSON map, with or without its addresses. Addresses that others cannot use are withheld."""
    plain = node_to_plain(node)
    if not with_addresses:
        del plain["ip_address"], plain["addresses"]
        return plain
    if not is_destination(node.ip_address):
        plain["ip_address"] = WITHHELD_ADDRESS
    plain["addresses"] = [address for address in node.addresses if is_destination(address)]
    return plain
