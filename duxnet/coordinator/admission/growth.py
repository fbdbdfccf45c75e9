"""Limits the growth of the registry: the rate of new nodes from one network, and the total number of nodes.

Here: the rate, and which node is removed to make room for another. Not here: quotas that make a node wait (`quotas`),
the number of registrations in progress (`backpressure`). Used in the commit thread.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from typing import Callable, NamedTuple, Optional

from duxnet.coordinator.admission.networks import network_of
from duxnet.coordinator.errors import Refused
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import DamagedStoreError
from registry_core.models.status import Admission

__all__ = ["Growth", "Newcomer"]

MOST_NETWORKS = 10_000
"""Maximum number of networks whose rate is stored, 200 bytes each. A dropped network gets its full rate again."""
MOST_NEWCOMERS = 1024
"""How many of the newest nodes are read to find one to remove. Once the limit is reached, this takes about 0.1 s."""
LOOK_AGAIN_SECONDS = 60.0
"""How long to wait before searching again after none was found."""


class Newcomer(NamedTuple):
    """A node that never completed a task, its client address, and its position in the order of registration."""

    order: int
    node_id: str
    peer: str


class Growth:
    """`most_nodes` limits all nodes, `new_per_minute` the new ones of each /24 (IPv6: /48). 0 means no limit."""

    def __init__(
        self,
        registry: NodeRegistry,
        most_nodes: int,
        new_per_minute: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._most_nodes = most_nodes
        self._new_per_minute = new_per_minute
        self._monotonic = monotonic
        self._left: dict[str, tuple[float, float]] = {}  # by network: how many may still register, and when that was so
        self._newcomers: dict[str, list[Newcomer]] = {}  # by network, newest last; filled when needed
        self._count = 0
        self._order = 0
        self._look_again_at = 0.0

    def take(self, peer: Optional[str]) -> None:
        """Count a new node from this address. Raises Refused if its network registers too many."""
        if not self._new_per_minute or not peer or ipaddress.ip_address(peer).is_loopback:
            return
        network, now, most = network_of(peer), self._monotonic(), float(self._new_per_minute)
        left, since = self._left.pop(network, (most, now))
        left = min(most, left + (now - since) * most / 60)
        self._left[network] = (left - 1 if left >= 1 else left, now)  # the most recently used last
        while len(self._left) > MOST_NETWORKS:
            del self._left[next(iter(self._left))]
        if left < 1:
            wait = (1 - left) * 60 / most + secrets.randbelow(10)
            raise Refused("too-many-requests", "too many new nodes from this network", retry_after_seconds=wait)

    def make_room(self, arrived: int) -> Optional[Newcomer]:
        """Returns the node to remove so that one more can register; None while there is room.

        `arrived` is the number of new nodes in the current commit. The result is the newest node that never completed a
        task, of the network with the most such nodes: a network that floods the registry displaces its own nodes. Nodes
        that an operator approved, suspended, banned or registered are kept. Raises Refused if all nodes are kept.
        """
        if not self._most_nodes or sum(self._registry.host.counts()) + arrived < self._most_nodes:
            return None
        if not self._newcomers and self._monotonic() >= self._look_again_at:
            self._find_newcomers()
        while self._newcomers:
            network = max(self._newcomers, key=lambda name: (len(self._newcomers[name]), self._newcomers[name][-1]))
            newcomer = self._newcomers[network].pop()
            self._count -= 1
            if not self._newcomers[network]:
                del self._newcomers[network]
            if self._peer_of(newcomer.node_id) is not None:  # it may have completed a task or been removed since
                return newcomer
        self._look_again_at = self._monotonic() + LOOK_AGAIN_SECONDS
        detail = "nodes_at_most is reached, and no node can be removed: each has worked or is managed by an operator"
        raise Refused("busy", detail, retry_after_seconds=LOOK_AGAIN_SECONDS + secrets.randbelow(60))

    def came(self, node_id: str, peer: Optional[str]) -> None:
        """Record a new node."""
        if self._newcomers:
            self._note(node_id, peer or "")
            if self._count > 2 * MOST_NEWCOMERS:
                self._newcomers, self._count = {}, 0

    def _note(self, node_id: str, peer: str) -> None:
        self._order += 1
        network = network_of(peer) if peer else ""
        self._newcomers.setdefault(network, []).append(Newcomer(self._order, node_id, peer))
        self._count += 1

    def _find_newcomers(self) -> None:
        """Collect newcomers from the newest nodes."""
        found = []
        for node_id in reversed(self._registry.host.ids()[-MOST_NEWCOMERS:]):
            peer = self._peer_of(node_id)
            if peer is not None:
                found.append((node_id, peer))
        for node_id, peer in reversed(found):
            self._note(node_id, peer)

    def _peer_of(self, node_id: str) -> Optional[str]:
        """Returns the client address of a node that may be removed, or None if it must stay or does not exist."""
        host = self._registry.host
        place = host.place(node_id)
        if place is not None and place.is_approved:
            return None
        try:
            node, state = self._registry.get_node(node_id), host.state(node_id)
            if node is None or state is None or "generation" not in state:
                return None
            if node.admission not in (Admission.PROBATION, Admission.PENDING):
                return None
            work = self._registry.get_reputation(node_id).evidence.get("correctness")
        except DamagedStoreError:  # only an operator may remove a damaged record
            return None
        return None if work is not None and work.successes > 0 else str(state.get("peer", ""))
