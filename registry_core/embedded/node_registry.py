"""NodeRegistry, the public class of the embedded registry.

It checks arguments and orders the steps of each call. A command: a rule decides, the store commits, the table changes,
an event is added. A query: the table finds the slots, the store reads their records.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any, Optional, Union

from registry_core.clock import Clock, SystemClock
from registry_core.contract import Queries
from registry_core.embedded.admin import RegistryAdmin
from registry_core.embedded.host import RegistryHost
from registry_core.embedded.live_state import LiveState
from registry_core.embedded.reputations import Reputations
from registry_core.embedded.search import count_nodes, find_nodes
from registry_core.embedded.tombstones import HostPart
from registry_core.embedded.transactions import Transactions
from registry_core.embedded.wallets import proven_wallet
from registry_core.errors import ReadOnlyError, RegistryClosedError, UnknownNodeError
from registry_core.events import EventKind, EventRing
from registry_core.models import limits
from registry_core.models.frozen import FrozenMap
from registry_core.models.node import Node
from registry_core.models.record import NodeRecord
from registry_core.models.reputation import Reputation
from registry_core.models.status import Liveness, NodeHealth
from registry_core.models.trusted import node_with, record_with
from registry_core.query.conditions import Failing
from registry_core.query.node_query import NodePage, NodeQuery
from registry_core.rules.health import HealthThresholds
from registry_core.rules.liveness import MAX_INTERVAL_SECONDS
from registry_core.rules.registration import Terms, registered
from registry_core.rules.reputation import (
    CORRECTNESS,
    NEWCOMER_SCORE,
    Outcome,
    audit_probability,
    expected_uptime,
    reputation_of,
)
from registry_core.rules.reputation.stored_evidence import state_of
from registry_core.storage.open_store import open_store
from registry_core.storage.store import Unreadable

__all__ = ["NodeRegistry"]

MAX_HEARTBEAT_TIMEOUT_SECONDS = 7 * 86_400.0


class NodeRegistry(Queries):
    """The embedded registry: in memory, in a JSON file or in SQLite, depending on the suffix of `persistence_path`.

    `heartbeat_timeout_seconds`: after this much silence a node is `down` (after half of it `suspect`). None: silence
    changes nothing. A node that registered with a longer interval gets a longer timeout.
    `read_only` opens the registry while another process writes it, and sees that process's last commit. `clock` is for
    tests and simulations. `sum_key`: 32 secret bytes of the host for the checksums of SQLite's rows; by default the
    file stores a key of its own.

    Thread-safe, but for one process only: not usable after a fork. Raises ValidationError, StoreError and its
    subclasses.
    """

    def __init__(
        self,
        persistence_path: Optional[Union[str, os.PathLike[str]]] = None,
        *,
        encryption_key: Optional[object] = None,
        read_only: bool = False,
        thresholds: Optional[HealthThresholds] = None,
        heartbeat_timeout_seconds: Optional[float] = None,
        clock: Optional[Clock] = None,
        sum_key: Optional[bytes] = None,
    ) -> None:
        if thresholds is not None:
            limits.instance("thresholds", thresholds, HealthThresholds)
        timeout = limits.optional_number(
            "heartbeat_timeout_seconds", heartbeat_timeout_seconds, 0.001, MAX_HEARTBEAT_TIMEOUT_SECONDS
        )
        self._clock = clock or SystemClock()
        self._store = open_store(persistence_path, encryption_key, read_only=read_only, sum_key=sum_key)
        try:
            self._live_state = LiveState(self._store, thresholds or HealthThresholds(), timeout, self._clock)
        except BaseException:
            self._store.close()
            raise
        self._transactions = Transactions(self._store, self._live_state)
        self._reputations = Reputations(self._store, self._transactions, self._live_state, self._clock)
        self.admin = RegistryAdmin(self._transactions, self._reputations)
        self.host = RegistryHost(
            self._live_state, self._transactions, self._reputations, self._register, self._deregister
        )
        _of_this_process.add(self)

    @property
    def events(self) -> EventRing:
        """The recent events, in order: `events.after(index, wait_seconds=0)`."""
        return self._live_state.events

    def register_node(self, node: Node, *, interval_seconds: Optional[float] = None) -> str:
        """Register a node, or update the description of the node with this id; see `Registry.register_node`."""
        return self._register(node, interval_seconds, Terms()).id

    def _register(self, node: Node, interval_seconds: Optional[float], terms: Terms) -> Node:
        limits.instance("node", node, Node)
        interval = limits.optional_number("interval_seconds", interval_seconds, 0.001, MAX_INTERVAL_SECONDS)
        with self._transactions.command() as unit:
            before = self._transactions.remains(node.id, unit)
            record = self._reputations.returning(
                unit,
                before,
                registered(
                    node,
                    before,
                    at=_milliseconds(self._clock.now()),
                    sequence=self._live_state.next_sequence,
                    newcomer_score=round(NEWCOMER_SCORE, 2),
                    interval_seconds=interval,
                    terms=terms,
                ),
            )
            if before is None:
                self._live_state.next_sequence += 1
            if record != before:
                self._transactions.put(unit, record)
                kind = EventKind.REGISTERED if before is None else EventKind.UPDATED
                unit.events.append((kind, node.id, FrozenMap()))
            unit.soft.append(lambda: self._live_state.sign_of_life(node.id))
        return record.node

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        """Record a sample and return the resulting health; see `Registry.update_node_health`."""
        self._transactions.before_change()
        load, memory, disk = load_average, memory_usage, disk_usage
        if type(load) is not float or not 0.0 < load <= limits.MAX_LOAD_AVERAGE:  # avoids a call in the usual case
            load = limits.optional_number("load_average", load, 0, limits.MAX_LOAD_AVERAGE)
        if type(memory) is not float or not 0.0 < memory <= 100.0:
            memory = limits.optional_number("memory_usage", memory, 0, 100)
        if type(disk) is not float or not 0.0 < disk <= 100.0:
            disk = limits.optional_number("disk_usage", disk, 0, 100)
        health = self._live_state.report(limits.lookup_key(node_id), load, memory, disk)
        if health is None:
            return self._report_in_batch(node_id, (load, memory, disk))
        return health

    def _report_in_batch(
        self, node_id: str, gauges: tuple[Optional[float], Optional[float], Optional[float]]
    ) -> NodeHealth:
        """Record a sample of a node that the caller's open batch registers; applied when the batch is durable."""
        batch = self._transactions.own_batch()
        staged = None if batch is None else self._transactions.staged(limits.lookup_key(node_id), batch)
        if batch is None or staged is None or staged[1] is None:
            raise UnknownNodeError(node_id)
        batch.soft.append(lambda: self._live_state.report(node_id, *gauges))
        return self._live_state.judged(staged[1].node.capabilities, gauges)

    def report_gap(self, gap: Mapping[str, Any]) -> None:
        """See `Reporting.report_gap`; this registry ignores gaps."""

    def forget_waits(self) -> None:
        """See `Reporting.forget_waits`; this registry never asks clients to wait."""

    @property
    def requested_interval_seconds(self) -> float:
        """0: the program that embeds the registry decides how often to report."""
        return 0.0

    @property
    def withheld_reasons(self) -> tuple[str, ...]:
        """Empty: the registry in this process belongs to no single node; use `explain_node` instead."""
        return ()

    def leave(self, node_id: str) -> None:
        """Report that the node leaves on purpose; see `Reporting.leave`."""
        with self._transactions.command() as unit:
            record = self._transactions.existing(node_id, unit)
            if record.node.liveness is not Liveness.LEFT:
                self._transactions.put(unit, record_with(record, node=node_with(record.node, liveness=Liveness.LEFT)))
            unit.soft.append(lambda: self._live_state.leave(record.node.id))

    def update_node_reputation(
        self,
        node_id: str,
        task_success: bool,
        *,
        task_id: Optional[str] = None,
        dimension: str = CORRECTNESS,
        weight: float = 1.0,
        rater: Optional[str] = None,
    ) -> Reputation:
        """Record the outcome of one task; see `Registry.update_node_reputation`."""
        outcome = Outcome(task_success, task_id, dimension, weight, rater).checked()
        with self._transactions.command() as unit:
            if not task_success and self._transactions.record(limits.lookup_key(node_id), unit) is None:
                reputation = self._reputations.add_to_removed(unit, node_id, outcome)
                if reputation is not None:
                    return reputation
            return self._reputations.add(unit, self._transactions.existing(node_id, unit), outcome)

    def get_node(self, node_id: str) -> Optional[Node]:
        """The node as it is now, or None. The cost does not depend on the number of nodes."""
        self._transactions.before_call()
        batch = self._transactions.own_batch()
        staged = None if batch is None else self._transactions.staged(limits.lookup_key(node_id), batch)
        if staged is not None:
            return None if staged[1] is None else self._live_state.as_it_will_be(staged[1])
        return self._live_state.get(node_id)

    def get_reputation(self, node_id: str) -> Reputation:
        """The node's reputation with its evidence and reasons. Raises UnknownNodeError."""
        record = self._record(node_id)
        reputation = reputation_of(state_of(record), record.node.admission)
        if not proven_wallet(record):
            return reputation
        reasons = (*reputation.reasons, "its wallet is proven: failures of the wallet's other nodes count against it")
        return replace(reputation, reasons=reasons)

    def _record(self, node_id: str) -> NodeRecord:
        self._transactions.before_call()
        record = self._transactions.visible_record(node_id)
        if record is None:
            raise UnknownNodeError(node_id)
        return record

    def expected_uptime(self, node_id: str, hours: float) -> float:
        """The probability that the node, live now, stays live for the next `hours`. Raises UnknownNodeError.

        An estimate from the hours in which this registry observed liveness (`heartbeat_timeout_seconds`), or the
        network's mean if there are none. It is not a bound.
        """
        return expected_uptime(state_of(self._record(node_id)), hours, self._reputations.network_uptime())

    def audit_probability(self, node_id: str) -> float:
        """The share of this node's results that another node should recompute: 1 for a newcomer, 0.02 for the best.

        The other node must share neither wallet, network nor rating ring with it. Raises UnknownNodeError.
        """
        return audit_probability(state_of(self._record(node_id)))

    def find_nodes(
        self, query: NodeQuery, *, unreadable: Optional[Unreadable] = None, look_at_most: Optional[int] = None
    ) -> NodePage:
        """The nodes that match the query, and the cursor of the next page; see `Registry.find_nodes`.

        `look_at_most` limits how many nodes are examined for `min_uptime_probability`, at about 0.1 ms each. The page
        may then hold fewer nodes than match, and its cursor continues after the last node examined.
        """
        self._transactions.before_call()
        if type(query) is not NodeQuery:  # avoids a call in the usual case
            limits.instance("query", query, NodeQuery)
        return find_nodes(self._live_state, query, self._stays, unreadable, look_at_most)

    def count(self, query: NodeQuery) -> int:
        """The number of nodes that match the query; see `Registry.count`."""
        self._transactions.before_call()
        if type(query) is not NodeQuery:  # avoids a call in the usual case
            limits.instance("query", query, NodeQuery)
        return count_nodes(self._live_state, query, self._stays)

    def _stays(self, node: Node, unreadable: Optional[Unreadable]) -> float:
        (record,) = self._store.read_many([node.id], unreadable)
        return 0.0 if record is None else expected_uptime(state_of(record), 6.0, self._reputations.network_uptime())

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """Each condition of the query that the node fails; see `Registry.explain_node`."""
        limits.instance("query", query, NodeQuery)
        node = self.get_node(node_id)
        if node is None:
            raise UnknownNodeError(node_id)
        stays = self.expected_uptime(node.id, 6.0) if query.min_uptime_probability else 1.0
        return query.failing(node, stays)

    def deregister_node(self, node_id: str) -> bool:
        """Remove the node; True if it was registered. Durable when it returns.

        Its reputation is kept in case it registers again. A node with a damaged record is removed too, and only its
        standing is kept.
        """
        return self._deregister(node_id, None)

    def _deregister(self, node_id: str, host: Optional[HostPart]) -> bool:
        with self._transactions.command() as unit:
            record = self._transactions.remains(limits.lookup_key(node_id), unit)
            if record is None:
                return False
            self._reputations.remember(unit, record, host)
            self._transactions.delete(unit, node_id)
            unit.events.append((EventKind.DEREGISTERED, node_id, FrozenMap()))
        return True

    def batch(self) -> AbstractContextManager[None]:
        """Combine many changes into one commit, all or nothing: an exception inside drops all of them.

        Inside, each change builds on the ones before it, and `get_node` and `get_reputation` show it. `list_nodes`,
        `count_nodes` and other threads see the state before the batch until the batch is durable. Durable calls of
        other threads wait for its end; samples and queries do not.
        """
        return self._transactions.batch()

    def save(self) -> None:
        """Write the newest samples and the list of down nodes; everything else is durable already."""
        self._transactions.before_change()
        self._transactions.save_samples()

    def load(self) -> None:
        """Reread the file after it was changed by hand or by another process. Unsaved samples are kept."""
        self._transactions.refresh()

    def tick(self) -> float:
        """Apply timeouts (silent nodes, expired cordons); return the seconds until the next call is due, at most 60.

        Every other call does this first, so only a host that waits for such changes needs to call it.
        """
        self._transactions.before_call()
        return self._live_state.tick()

    def close(self) -> None:
        """Save the samples and release the file. Closing twice is no error; any other call after it raises."""
        if self._transactions.refusal is not None:
            return
        try:
            if not self._store.read_only:
                self._transactions.save_samples()
        finally:
            self._transactions.refusal = RegistryClosedError("the registry is closed; open it again")
            self._live_state.events.close()
            self._transactions.close()

    def __enter__(self) -> NodeRegistry:
        self._transactions.before_call()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def refuse_after_fork(self) -> None:
        """Refuse every call in a forked child, since locks and handles belong to the parent."""
        why = "this registry was opened before a fork and belongs to the parent process; open it after the fork"
        self._transactions.refusal = ReadOnlyError(why)


_of_this_process: weakref.WeakSet[NodeRegistry] = weakref.WeakSet()


def _refuse_in_child() -> None:
    for registry in list(_of_this_process):
        registry.refuse_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_refuse_in_child)


def _milliseconds(moment: datetime) -> datetime:
    """Rounded down to the precision of the files, so that a restart changes nothing."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
