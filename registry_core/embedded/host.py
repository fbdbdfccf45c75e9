"""`registry.host`: what a service that runs a registry for others asks of it, beyond what any caller may.

Here: registering with what the host keeps beside a node, pacing, holding back verdicts, and the work of each hour. Not
here: who may register, when a verdict is to be held back (`rules.breaker`), HTTP.
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
    """A registered node, and what the host keeps beside it."""

    node: Node
    state: Mapping[str, Any]


class Place(NamedTuple):
    """Where a node stands among the others."""

    is_approved: bool
    liveness: Liveness


class RemovedNode(NamedTuple):
    """What is kept of a removed node: its host's state, and why it was banned, or ""."""

    state: Mapping[str, Any]
    ban: str


class LivenessCounts(NamedTuple):
    """How many nodes are in each state of liveness."""

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
        """As `register_node`, with `state` (JSON values) kept beside the record in the same commit.

        A node that is new is `pending` when a reason is given. Returns the node as it is kept, without health and
        liveness. Raises as `register_node` does.
        """
        limits.displayable("pending_reason", pending_reason, "reason")
        return self._register(node, interval_seconds, Terms(frozen_json_map("state", state), pending_reason))

    def known(self, node_id: str) -> Optional[Known]:
        """The node and what is kept beside it; None for a node that is not registered.

        Inside a batch, as the next change of the batch finds it: that change does not read the record again.
        """
        return self._as_known(self._transactions.visible_record(node_id))

    def deregister(self, node_id: str, *, state: Mapping[str, Any], lasts: bool = False) -> bool:
        """As `deregister_node`, with `state` (JSON values) kept of the removed node in the same commit.

        For 30 days, or, where it `lasts`, for the newest 100,000 such nodes. It stays while the node is back, until the
        next `deregister`.
        """
        return self._deregister(node_id, HostPart(state, lasts=lasts))

    def removed(self, node_id: str) -> Optional[RemovedNode]:
        """What is kept of a node that was removed; None for nothing. Inside a batch, as the batch has it."""
        found = self._reputations.tombstones.visible(node_id)
        if found is None:
            return None
        is_banned = found.left.standing is Admission.BANNED
        return RemovedNode(found.host_state, (found.reason or "banned") if is_banned else "")

    def take_over_removed(
        self, node_id: str, *, state: Mapping[str, Any], lasts: bool, ban: str, removed_at: float
    ) -> None:
        """Keep what this host kept elsewhere of a node that was removed, unless something newer is kept here.

        `removed_at` is Unix seconds; `ban` is why it was banned, or "".
        """
        limits.text("ban", ban, "reason")
        at = limits.number("removed_at", removed_at, 0, 1e12)
        with self._transactions.command() as unit:
            host = HostPart(state, lasts=lasts)
            self._reputations.tombstones.take_over(unit, limits.lookup_key(node_id), host, ban, at)

    def state(self, node_id: str) -> Optional[Mapping[str, Any]]:
        """What is kept beside the node; None for a node that is not registered. Inside a batch, as the batch has it."""
        record = self._transactions.visible_record(node_id)
        return None if record is None else record.host_state

    def remains(self, node_id: str) -> Optional[Known]:
        """As `known`, for who removes or bans the node, or writes it anew.

        Where its record is damaged, that is what its columns say: neither address, names nor state.
        """
        return self._as_known(self._transactions.visible_remains(node_id))

    def _as_known(self, record: Optional[NodeRecord]) -> Optional[Known]:
        return None if record is None else Known(self._live_state.as_it_will_be(record), record.host_state)

    def leave_out(self, error: DamagedStoreError) -> bool:
        """Leave the node whose record is damaged out of lists and counts until it is written anew; True: as of now."""
        return self._live_state.leave_out(error.node_id)

    @property
    def left_out(self) -> int:
        """How many nodes no list holds, since their records are damaged."""
        return self._live_state.left_out

    def may_be_given_work(self, node_id: str) -> bool:
        """Do admission and scheduling allow it, however the node fares? True for a node that is not known."""
        with self._live_state.locked() as table:
            slots = table.slots
            slot = slots.by_id.get(node_id)
            return slot is None or bool(slots.may_work[slot] and not slots.cordoned[slot])

    def place(self, node_id: str) -> Optional[Place]:
        """Whether the node is approved, and its liveness; None for one that is not known. Reads no record."""
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
        """The wallet that the node has proven to be its own, or ""."""
        record = self._transactions.visible_record(node_id)
        return "" if record is None else proven_wallet(record)

    def pace(self, interval_seconds: float) -> None:
        """Every node is asked to report this often: silence is judged by it, or by a node's own longer interval."""
        self._live_state.pace(limits.number("interval_seconds", interval_seconds, 0.001, MAX_INTERVAL_SECONDS))

    def hold_down(self, is_held: Optional[Callable[[str], bool]]) -> None:
        """While `is_held` says True of a node, its silence makes it `suspect` and never `down`. Asked under a lock."""
        self._live_state.hold_down(is_held)

    def ids_in(self, state: Liveness) -> list[str]:
        """The nodes in this state, as last judged. Looks at those only."""
        with self._live_state.locked() as table:
            return table.ids_in(limits.choice("state", state, Liveness))

    def counts(self) -> LivenessCounts:
        """Nodes by liveness, as last judged."""
        with self._live_state.locked() as table:
            return LivenessCounts(*table.liveness_counts())

    @property
    def hours_are_due(self) -> bool:
        """Whether `settle_hours` has something to do. Reads memory only, and no clock."""
        return self._reputations.hours_are_due

    def settle_hours(self, most: int = 1000) -> int:
        """Write the hours of attendance that are over into the evidence of at most `most` nodes, in one commit.

        Returns how many nodes were looked at; 0: nothing is due. Call it until then, hourly, from where waiting for the
        disk is allowed; about 0.1 ms a node. Nodes that get outcomes are settled with them.
        """
        self._transactions.before_change()
        return self._reputations.settle_hours(limits.integer("most", most, 1, 1_000_000))

    def weigh_ratings(self, seeds: Collection[str]) -> int:
        """Weigh all ratings of nodes by nodes anew, by the trust that flows from `seeds`; until then they do not count.

        `seeds` are ids of nodes that you trust: at least five that do not depend on each other. Reads every node once
        (about ten seconds for a million ratings); durable. Returns how many nodes' evidence changed.
        """
        self._transactions.before_change()
        return self._reputations.weigh_ratings([limits.identifier("seeds", seed) for seed in seeds])
