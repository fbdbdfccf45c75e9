"""What every registry promises, wherever it lives. `NodeRegistry` (embedded) and `RemoteRegistry` (HTTP) keep it.

`Reporting` is the part that a node's agent knows, `Registry` is all of it, `LocalRegistry` what a registry in this
process has beside. One test suite is the law for both registries.
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
    """What a node's agent does with a registry: register, report, go."""

    def register_node(self, node: Node, *, interval_seconds: Optional[float] = None) -> str:
        """Take a node in, or update the description of the one with this id, and return the id.

        `interval_seconds` is how often the node means to report, at most 900; silence is judged by it.
        Fields that belong to the registry (health, reputation, status axes, times) are ignored; history is
        kept. Counts as a sign of life. Durable before it returns. Raises ValidationError, StoreError.
        """

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        """Record a sample (1-minute load of the host, percent, percent) and return what follows from it.

        A gauge left out was not measured: its condition becomes `unknown`. Soft: never waits for the disk.
        Raises ValidationError, UnknownNodeError; changes nothing then.
        """

    def report_gap(self, gap: Mapping[str, Any]) -> None:
        """Say what was measured while reports could not be delivered: once, with the next report that arrives.

        `gap` is the plain form of `wire.shapes.Gap`; a registry that takes gaps raises ValidationError for another. One
        in the same process keeps none.
        """

    def forget_waits(self) -> None:
        """Ask again with the next call, also where the registry asked to be left alone until later."""

    @property
    def requested_interval_seconds(self) -> float:
        """How often the registry asks its nodes to report; 0 where it does not ask."""

    @property
    def withheld_reasons(self) -> tuple[str, ...]:
        """Why the node that reports is given no work whatever it reports, as of its last report."""

    def leave(self, node_id: str) -> None:
        """Say that the node goes in good order: it is `left`, not `down`, until its next sign of life.

        Durable before it returns. Raises UnknownNodeError, and NotSupportedError where the registry does not speak for
        this node: over the network only a node itself says that it leaves.
        """

    def close(self) -> None:
        """Let go of what the registry holds. Closing twice is no error."""


class Queries(Protocol):
    """Questions about nodes. A registry answers `find_nodes` and `count`, and inherits the rest."""

    @abstractmethod
    def find_nodes(self, query: NodeQuery, *, unreadable: Optional[Unreadable] = None) -> NodePage:
        """The nodes that meet every condition of the query, in its order, and the cursor behind them.

        Without a limit all of them. A cursor goes on behind the last node even where that was removed meanwhile.

        `unreadable` is called with the error of each node that is found to be damaged, and the answer goes on without
        it; from then on the registry leaves it out of all lists and counts, until its record is written anew. A page
        that met very many of them may hold fewer nodes, and its cursor goes on. Without `unreadable` the first is
        raised. A coordinator leaves them out by itself.
        """

    @abstractmethod
    def count(self, query: NodeQuery) -> int:
        """How many nodes meet every condition of the query, whatever its order, limit and cursor."""

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
        """The nodes that meet every condition, best reputation first (rounded to 0.01), ties by registration.

        `only_healthy` means `Node.is_ready`. In `min_capabilities` a field at its default demands nothing, and
        a detail field (quota, CPU model, …) is a ValidationError. Equal is enough wherever a number is demanded;
        scores are compared after rounding to 0.01. `wallet_address=""` asks for nodes without one; every one of
        `tags` must be carried; ids in `exclude` are left out, known or not.

        `order="random"` is a draw that `seed` fixes for a registry that has not changed; `"least_loaded"` draws
        8 × `limit` ready nodes and returns those with the least load for each CPU, unknown loads last. `after` is
        the cursor of an earlier answer or the id of its last node: the listing goes on behind it, in the order
        by reputation only. `min_uptime_probability`: that the node, live now, stays live for the next 6 hours.
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
                order,  # type: ignore[arg-type]  # NodeQuery turns the text into its member, or refuses it
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
        """How many nodes `list_nodes` would return without a limit."""
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
    """What operators decide about nodes. Each call is durable before it returns; all raise UnknownNodeError, and
    ValidationError for a text that is no reason and for a change that makes no sense in the node's state.
    """

    @abstractmethod
    def set_admission(self, node_id: str, admission: Admission, *, reason: str = "", actor: str = "") -> None:
        """Approve, suspend or ban the node, or put it on probation; the next four are short for this."""

    def approve(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node take part for good."""
        self.set_admission(node_id, Admission.APPROVED, reason=reason, actor=actor)

    def put_on_probation(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node take part for now; how new nodes begin."""
        self.set_admission(node_id, Admission.PROBATION, reason=reason, actor=actor)

    def suspend(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Take the node out until it is approved or put on probation again."""
        self.set_admission(node_id, Admission.SUSPENDED, reason=reason, actor=actor)

    def ban(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Take the node out for good; registering again does not help it. Works whatever its record holds."""
        self.set_admission(node_id, Admission.BANNED, reason=reason, actor=actor)

    @abstractmethod
    def cordon(self, node_id: str, *, reason: str = "", actor: str = "", until: Optional[datetime] = None) -> None:
        """Give the node no new work, until `until` (a time with its zone) or until `uncordon`."""

    @abstractmethod
    def uncordon(self, node_id: str, *, reason: str = "", actor: str = "") -> None:
        """Let the node get work again. No error when it was not cordoned."""

    @abstractmethod
    def attach_wallet(self, node_id: str, signature: str, *, actor: str = "") -> None:
        """Prove the wallet that the node names, by its signature over `identity.wallets.proof_message(node_id)`."""


class Registry(Reporting, Queries, Protocol):
    """Register nodes, follow them, judge them, find them."""

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
        """Record the outcome of one task and return the new reputation. Durable before it returns.

        With `task_id` a task counts once (the last 1,024 of 30 days). `weight`: above 0, at most 5; a result that was
        proven wrong weighs 5. `rater`: the id of the node whose opinion this is; None means that you verified it.
        `dimension` is `correctness` or `performance`. A failure of a node that was removed counts when it comes back,
        where anything is kept of it. Raises ValidationError, UnknownNodeError.
        """

    def get_node(self, node_id: str) -> Optional[Node]:
        """The node as it is now, or None."""

    def get_reputation(self, node_id: str) -> Reputation:
        """The node's reputation with evidence and reasons. Raises UnknownNodeError."""

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """Each condition of the query that the node fails, and what would mend it; none: it is among the answers.

        Order, limit and cursor are no conditions. Raises UnknownNodeError, ValidationError.
        """

    def deregister_node(self, node_id: str) -> bool:
        """Remove the node; True if it was there. Durable before it returns."""


class LocalRegistry(Registry, Protocol):
    """A registry in this process: what a host can do with it beside the commands that any registry takes."""

    @property
    def events(self) -> EventRing:
        """What happened, in order: `events.after(index, wait_seconds=0)`."""

    def save(self) -> None:
        """Write the newest samples and who is down; all else is durable already."""

    def load(self) -> None:
        """Read what is kept anew, when another hand changed it."""

    def batch(self) -> AbstractContextManager[None]:
        """Many changes, one commit, all or nothing."""

    def tick(self) -> float:
        """Let time do its work; returns in how many seconds it is next due."""
