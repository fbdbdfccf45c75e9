"""What every registry promises, wherever it lives. `NodeRegistry` (embedded) and `RemoteRegistry` (HTTP) keep it.

The agent knows only `Registry`. One test suite is the law for both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Optional, Protocol, Union

from registry_core.events import EventRing
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.reputation import Reputation
from registry_core.models.status import NodeHealth
from registry_core.query.explain import Failing
from registry_core.query.node_query import NO_TAGS, GpuDemand, NodeOrder, NodeQuery

__all__ = ["LocalRegistry", "Registry"]


class Registry(Protocol):
    """Register nodes, follow them, judge them, find them."""

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
        `dimension` is `correctness` or `performance`. Raises ValidationError, UnknownNodeError.
        """

    def get_node(self, node_id: str) -> Optional[Node]:
        """The node as it is now, or None."""

    def get_reputation(self, node_id: str) -> Reputation:
        """The node's reputation with evidence and reasons. Raises UnknownNodeError."""

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """Each condition of the query that the node fails, and what would mend it; none: it is among the answers.

        Order, limit and cursor are no conditions. Raises UnknownNodeError, ValidationError.
        """

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

    def deregister_node(self, node_id: str) -> bool:
        """Remove the node; True if it was there. Durable before it returns."""

    def close(self) -> None:
        """Let go of what the registry holds. Closing twice is no error."""


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
