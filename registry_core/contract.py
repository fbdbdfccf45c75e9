"""The interface of every registry, implemented by `NodeRegistry` (embedded) and `RemoteRegistry` (HTTP).

`Reporting` is the part that a node's agent uses, `Registry` is the whole, and `LocalRegistry` adds what only a registry
in this process offers. One test suite runs against both implementations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Optional, Protocol, Union

from registry_core.events import EventRing
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.reputation import Reputation
from registry_core.models.status import Admission, NodeHealth
from registry_core.query.conditions import NO_TAGS, Failing, GpuDemand
from registry_core.query.node_query import NodeOrder, NodePage, NodeQuery
from registry_core.storage.store import Unreadable

__all__ = ["Admin", "LocalRegistry", "Queries", "Registry", "Reporting"]


class Reporting(Protocol):
    """The calls of a node's agent: register, report, leave."""

    def register_node(self, node: Node, *, interval_seconds: Optional[float] = None) -> str:
        """Register a node, or update the description of the node with this id, and return the id.

        `interval_seconds` is how often the node intends to report, at most 900; the registry derives from it when a
        silent node is down. Fields that belong to the registry (health, reputation, status, times) are ignored, and
        the node's history is kept. Counts as a sign of life. Durable when it returns. Raises ValidationError,
        StoreError.
        """

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        """Record a sample (1-minute load of the host, percent, percent) and return the resulting health.

        A gauge that is None was not measured: its condition becomes `unknown`. Never waits for the disk.
        Raises ValidationError or UnknownNodeError, and then changes nothing.
        """

    def report_gap(self, gap: Mapping[str, Any]) -> None:
        """Deliver a summary of what was measured while no report got through, once, with the next report.

        `gap` is the plain form of `wire.shapes.Gap`; a registry that stores gaps raises ValidationError for anything
        else. A registry in the same process ignores them.
        """

    def forget_waits(self) -> None:
        """Send the next call at once, even if the registry requested a later retry."""

    @property
    def requested_interval_seconds(self) -> float:
        """The reporting interval that the registry requests from its nodes; 0 if it requests none."""

    @property
    def withheld_reasons(self) -> tuple[str, ...]:
        """Why the reporting node gets no work regardless of its health, as of its last report."""

    def leave(self, node_id: str) -> None:
        """Report that the node leaves on purpose: it is `left`, not `down`, until its next sign of life.

        Durable when it returns. Raises UnknownNodeError, and NotSupportedError where this client does not act for the
        node: over the network only a node itself can report that it leaves.
        """

    def close(self) -> None:
        """Release the registry's resources. Closing twice is no error."""


class Queries(Protocol):
    """Queries for nodes. A registry implements `find_nodes` and `count`, and inherits the rest."""

    @abstractmethod
    def find_nodes(self, query: NodeQuery, *, unreadable: Optional[Unreadable] = None) -> NodePage:
        """The nodes that meet every condition of the query, in its order, and the cursor of the next page.

        Without a limit all of them are returned. A cursor stays valid when the last node of its page is removed.

        `unreadable` is called with the error of each node whose record turns out to be damaged, and the result omits
        that node; from then on the registry omits it from all lists and counts until its record is rewritten. A page
        that met very many damaged records may hold fewer nodes than its limit and still have a cursor. Without
        `unreadable` the first such error is raised. A coordinator omits damaged nodes by itself.
        """

    @abstractmethod
    def count(self, query: NodeQuery) -> int:
        """The number of nodes that meet every condition of the query; order, limit and cursor are ignored."""

    def list_nodes(
        self,
        min_reputation: float = 0.0,
        only_healthy: bool = False,
        min_capabilities: Optional[NodeCapabilities] = None,
        *,
        wallet_address: Optional[str] = None,
        gpus: Optional[GpuDemand] = None,
        tags: Mapping[str, str] = NO_TAGS,
        exclude: Collection[str] = (),
        order: Union[NodeOrder, str] = NodeOrder.REPUTATION,
        seed: int = 0,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        min_uptime_probability: float = 0.0,
    ) -> list[Node]:
        """The nodes that meet every condition, best reputation first (rounded to 0.01), ties in order of registration.

        `only_healthy` means `Node.is_ready`. In `min_capabilities` a field at its default requires nothing, and a
        detail field (quota, CPU model, …) raises ValidationError. Minimums are inclusive; scores are compared after
        rounding to 0.01. `wallet_address=""` selects nodes without a wallet; a node must carry all of `tags`; ids in
        `exclude` are omitted, whether known or not.

        `order="random"` is a random order, the same for the same `seed` while the registry does not change;
        `"least_loaded"` draws 8 × `limit` ready nodes and returns those with the lowest load per CPU, unknown loads
        last. `after` is the cursor of an earlier page, or the id of its last node: the list continues after it (only
        in the order by reputation). `min_uptime_probability` is the minimum probability that the node, live now,
        stays live for the next 6 hours.
        """
        return self.find_nodes(
            NodeQuery(
                min_reputation,
                only_healthy,
                min_capabilities,
                wallet_address,
                gpus,
                tags,
                exclude,
                order,  # type: ignore[arg-type]  # NodeQuery converts the text or raises
                seed,
                limit,
                after,
                min_uptime_probability,
            )
        ).nodes

    def count_nodes(
        self,
        min_reputation: float = 0.0,
        only_healthy: bool = False,
        min_capabilities: Optional[NodeCapabilities] = None,
        *,
        wallet_address: Optional[str] = None,
        gpus: Optional[GpuDemand] = None,
        tags: Mapping[str, str] = NO_TAGS,
        exclude: Collection[str] = (),
        min_uptime_probability: float = 0.0,
    ) -> int:
        """The number of nodes that `list_nodes` would return without a limit."""
        return self.count(
            NodeQuery(
                min_reputation,
                only_healthy,
                min_capabilities,
                wallet_address,
                gpus,
                tags,
                exclude,
                min_uptime_probability=min_uptime_probability,
            )
        )


class Admin(Protocol):
    """The commands of operators. Each call is durable when it returns; each raises UnknownNodeError, and
    ValidationError for an invalid text and for a change that the node's state does not allow.
    """

    @abstractmethod
    def set_admission(self, node_id: str, admission: Admission, *, reason: str = "", actor: str = "") -> None:
        """Approve, suspend or ban the node, or put it on probation; the next four methods are shorthands."""

    def approve(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Admit the node permanently."""
        self.set_admission(node_id, Admission.APPROVED, reason=reason, actor=actor)

    def put_on_probation(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Admit the node on probation, as every new node starts."""
        self.set_admission(node_id, Admission.PROBATION, reason=reason, actor=actor)

    def suspend(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Give the node no work until it is approved or put on probation again."""
        self.set_admission(node_id, Admission.SUSPENDED, reason=reason, actor=actor)

    def ban(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Exclude the node permanently, even if it registers again. Works even if its record is damaged."""
        self.set_admission(node_id, Admission.BANNED, reason=reason, actor=actor)

    @abstractmethod
    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """Give the node no new work until `until` (a timezone-aware time) or until `uncordon`."""

    @abstractmethod
    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node get work again. No error if it was not cordoned."""

    @abstractmethod
    def attach_wallet(self, node_id: str, signature: str, *, actor: str = "") -> None:
        """Prove the node's wallet by the wallet's signature of `identity.wallets.proof_message(node_id)`."""


class Registry(Reporting, Queries, Protocol):
    """The whole registry: register, report, rate and find nodes."""

    @property
    def admin(self) -> Admin:
        """The commands of operators."""

    def update_node_reputation(
        self,
        node_id: str,
        task_success: bool,
        *,
        task_id: Optional[str] = None,
        dimension: str = "correctness",
        weight: float = 1.0,
        rater: Optional[str] = None,
    ) -> Reputation:
        """Record the outcome of one task and return the new reputation. Durable when it returns.

        With `task_id` a task counts once (the last 1,024 ids of 30 days are remembered). `weight` is above 0 and at
        most 5, the weight of a result proven wrong. `rater` is the id of the node whose opinion this is; None means
        that you verified the outcome. `dimension` is `correctness` or `performance`. A failure of a removed node counts
        when the node registers again, if its past is still kept. Raises ValidationError, UnknownNodeError.
        """

    def get_node(self, node_id: str) -> Optional[Node]:
        """The node as it is now, or None."""

    def get_reputation(self, node_id: str) -> Reputation:
        """The node's reputation with its evidence and reasons. Raises UnknownNodeError."""

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """Each condition of the query that the node fails, with a remedy; empty if the node matches.

        Order, limit and cursor are not conditions. Raises UnknownNodeError, ValidationError.
        """

    def deregister_node(self, node_id: str) -> bool:
        """Remove the node; True if it was registered. Durable when it returns."""


class LocalRegistry(Registry, Protocol):
    """A registry in this process, with the calls that a remote registry does not offer."""

    @property
    def events(self) -> EventRing:
        """The recent events, in order: `events.after(index, wait_seconds=0)`."""

    def save(self) -> None:
        """Write the newest samples and the list of down nodes; everything else is durable already."""

    def load(self) -> None:
        """Reread the store after it was changed by hand or by another process."""

    def batch(self) -> AbstractContextManager[None]:
        """Many changes, one commit, all or nothing."""

    def tick(self) -> float:
        """Apply timeouts and expiries; return the seconds until the next call is due."""
