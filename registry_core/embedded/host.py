"""`registry.host`: the calls of a service that runs a registry for others, such as the coordinator.

They register nodes together with the host's own data, set the reporting interval, suppress `down` during an outage, and
run the hourly work. The host decides who may register; `rules.breaker` decides when `down` is suppressed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Callable, NamedTuple, Optional

from registry_core.embedded.live_state import LiveState
from registry_core.embedded.reputations import Reputations
from registry_core.embedded.tombstones import HostPart
from registry_core.embedded.transactions import Transactions
from registry_core.embedded.wallets import proven_wallet
from registry_core.errors import DamagedStoreError
from registry_core.models import limits
from registry_core.models.frozen import frozen_json_map
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.status import Admission, Liveness
from registry_core.rules.liveness import MAX_INTERVAL_SECONDS
from registry_core.rules.registration import Terms
from registry_core.rules.reputation import is_steady
from registry_core.rules.reputation.stored_evidence import state_of

__all__ = ["Known", "LivenessCounts", "Place", "RegistryHost", "RemovedNode"]


class Known(NamedTuple):
    """A registered node and the host's data about it."""

    node: Node
    state: Mapping[str, Any]


class Place(NamedTuple):
    """A node's approval and liveness."""

    is_approved: bool
    liveness: Liveness


class RemovedNode(NamedTuple):
    """What is kept of a removed node: the host's data, and the reason of its ban or ""."""

    state: Mapping[str, Any]
    ban: str


class LivenessCounts(NamedTuple):
    """The number of nodes in each state of liveness."""

    live: int
    suspect: int
    down: int
    left: int


class RegistryHost:
    """The calls of a host. Thread-safe, like the registry itself."""

    def __init__(
        self,
        live_state: LiveState,
        transactions: Transactions,
        reputations: Reputations,
        register: Callable[[Node, Optional[float], Terms], Node],
        deregister: Callable[[str, Optional[HostPart]], bool],
    ) -> None:
        self._live_state = live_state
        self._transactions = transactions
        self._reputations = reputations
        self._register = register
        self._deregister = deregister

    def register(
        self,
        node: Node,
        *,
        interval_seconds: Optional[float],
        state: Mapping[str, Any],
        pending_reason: str = "",
    ) -> Node:
        """As `register_node`; stores `state` (JSON values) with the record in the same commit.

        A new node is `pending` if a reason is given. Returns the stored node, without health and liveness. Raises as
        `register_node` does.
        """
        limits.displayable("pending_reason", pending_reason, "reason")
        return self._register(node, interval_seconds, Terms(frozen_json_map("state", state), pending_reason))

    def known(self, node_id: str) -> Optional[Known]:
        """The node and the host's data about it; None for a node that is not registered.

        Inside a batch, as the batch has changed it; the next change of the batch does not read the record again.
        """
        return self._as_known(self._transactions.visible_record(node_id))

    def deregister(self, node_id: str, *, state: Mapping[str, Any], lasts: bool = False) -> bool:
        """As `deregister_node`; stores `state` (JSON values) about the removed node in the same commit.

        It is kept for 30 days, or with `lasts` for the newest 100,000 such nodes. It is also kept if the node registers
        again, until the next `deregister`.
        """
        return self._deregister(node_id, HostPart(state, lasts=lasts))

    def removed(self, node_id: str) -> Optional[RemovedNode]:
        """What is kept of a removed node, if anything. Inside a batch, as the batch has changed it."""
        found = self._reputations.tombstones.visible(node_id)
        if found is None:
            return None
        is_banned = found.left.standing is Admission.BANNED
        return RemovedNode(found.host_state, (found.reason or "banned") if is_banned else "")

    def take_over_removed(
        self, node_id: str, *, state: Mapping[str, Any], lasts: bool, ban: str, removed_at: float
    ) -> None:
        """Store the host's data, kept elsewhere so far, about a removed node, unless newer data is stored.

        `removed_at` is Unix seconds; `ban` is the reason of its ban or "".
        """
        limits.text("ban", ban, "reason")
        at = limits.number("removed_at", removed_at, 0, 1e12)
        with self._transactions.command() as unit:
            host = HostPart(state, lasts=lasts)
            self._reputations.tombstones.take_over(unit, limits.lookup_key(node_id), host, ban, at)

    def state(self, node_id: str) -> Optional[Mapping[str, Any]]:
        """The host's data about the node; None for an unknown node. Inside a batch, as the batch has changed it."""
        record = self._transactions.visible_record(node_id)
        return None if record is None else record.host_state

    def remains(self, node_id: str) -> Optional[Known]:
        """As `known`, in order to remove, ban or rewrite the node even if its record is damaged.

        A damaged record yields only its columns: no addresses, names or host data.
        """
        return self._as_known(self._transactions.visible_remains(node_id))

    def _as_known(self, record: Optional[NodeRecord]) -> Optional[Known]:
        return None if record is None else Known(self._live_state.as_it_will_be(record), record.host_state)

    def leave_out(self, error: DamagedStoreError) -> bool:
        """Omit a node with a damaged record from lists and counts until it is rewritten; False if it was already."""
        return self._live_state.leave_out(error.node_id)

    @property
    def left_out(self) -> int:
        """The number of nodes that are omitted from all lists because their records are damaged."""
        return self._live_state.left_out

    def may_be_given_work(self, node_id: str) -> bool:
        """Whether admission and scheduling allow it, regardless of health. True for an unknown node."""
        with self._live_state.locked() as table:
            slots = table.slots
            slot = slots.by_id.get(node_id)
            return slot is None or bool(slots.may_work[slot] and not slots.cordoned[slot])

    def place(self, node_id: str) -> Optional[Place]:
        """The node's approval and liveness; None for an unknown node. Reads no record."""
        with self._live_state.locked() as table:
            slots = table.slots
            slot = slots.by_id.get(node_id)
            if slot is None:
                return None
            return Place(bool(slots.may_work[slot] and not slots.newcomer[slot]), table.liveness(slot))

    def is_steady(self, node_id: str) -> bool:
        """Was the node there for about a week, with at most one break? Reads its record."""
        record = self._transactions.visible_record(node_id)
        return record is not None and is_steady(state_of(record))

    def ids(self) -> list[str]:
        """All nodes, in order of registration."""
        with self._live_state.locked() as table:
            return table.ids()

    def proven_wallet(self, node_id: str) -> str:
        """The wallet that the node has proven, or ""."""
        record = self._transactions.visible_record(node_id)
        return "" if record is None else proven_wallet(record)

    def pace(self, interval_seconds: float) -> None:
        """Judge liveness by this reporting interval, or by a node's own longer one."""
        self._live_state.pace(limits.number("interval_seconds", interval_seconds, 0.001, MAX_INTERVAL_SECONDS))

    def hold_down(self, is_held: Optional[Callable[[str], bool]]) -> None:
        """While `is_held` returns True for a node, it becomes `suspect` but not `down`. Called under a lock."""
        self._live_state.hold_down(is_held)

    def ids_in(self, state: Liveness) -> list[str]:
        """The nodes that were in this state when liveness was last judged. The cost depends on their number only."""
        with self._live_state.locked() as table:
            return table.ids_in(limits.choice("state", state, Liveness))

    def counts(self) -> LivenessCounts:
        """The number of nodes by liveness, as last judged."""
        with self._live_state.locked() as table:
            return LivenessCounts(*table.liveness_counts())

    @property
    def hours_are_due(self) -> bool:
        """Whether `settle_hours` has work to do. Reads memory only, no clock."""
        return self._reputations.hours_are_due

    def settle_hours(self, most: int = 1000) -> int:
        """Write completed hours of uptime into the evidence of at most `most` nodes, in one commit.

        Returns the number of nodes examined; 0 means that nothing is due. Call it hourly until it returns 0, from a
        thread that may wait for the disk; it takes about 0.1 ms per node. A task outcome settles its node's hours too.
        """
        self._transactions.before_change()
        return self._reputations.settle_hours(limits.integer("most", most, 1, 1_000_000))

    def weigh_ratings(self, seeds: Collection[str]) -> int:
        """Recompute the weight of all ratings between nodes from the trust that flows from `seeds`.

        A new rating does not count before the next call. `seeds` are ids of nodes that you trust: at least five that do
        not depend on each other. Reads every node once (about ten seconds for a million ratings). Durable when it
        returns. Returns the number of nodes whose evidence changed.
        """
        self._transactions.before_change()
        return self._reputations.weigh_ratings([limits.identifier("seeds", seed) for seed in seeds])
