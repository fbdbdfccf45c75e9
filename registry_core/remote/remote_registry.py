"""`RemoteRegistry`: the calls of `Registry`, made to a coordinator over HTTP.

Two ways to be known there: as the node whose key lies in `state_dir` (it writes only about itself), or by a
bearer token (operator, reader, rater). Here: one method a call. Not here: signing, attempts, error mapping.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, Union

import httpx
import msgspec

from registry_core.errors import RegistryClosedError, UnknownNodeError, ValidationError
from registry_core.models import limits
from registry_core.models.addresses import WITHHELD_ADDRESS
from registry_core.models.encoding import health_from_plain, node_from_plain, node_to_plain
from registry_core.models.node import Node, NodeCapabilities
from registry_core.models.reputation import Reputation
from registry_core.models.status import NodeHealth
from registry_core.query.explain import Failing
from registry_core.query.node_query import NO_TAGS, GpuDemand, NodeOrder, NodeQuery
from registry_core.remote.admin import RemoteAdmin
from registry_core.remote.answers import Answer, decoded, problem_in, raise_for
from registry_core.remote.node_session import NodeSession, Registrar
from registry_core.remote.options import RemoteOptions, checked_addresses
from registry_core.remote.sender import Sender
from registry_core.rules.reputation import Outcome
from registry_core.wire.problems import kind_of
from registry_core.wire.reputation import reputation_from_plain
from registry_core.wire.shapes import (
    LONGEST_INTERVAL_SECONDS,
    SHORTEST_INTERVAL_SECONDS,
    Gap,
    Heartbeat,
    HeartbeatReply,
    Registration,
    RegistrationReply,
    TaskOutcome,
)

__all__ = ["RemoteRegistry"]

PAGE = 1000


class RemoteRegistry:
    """A registry on another machine. `networks` is one or several ways to the same coordinator, tried in order.

    With `state_dir` it speaks for the node whose key is there (made at the first start). Thread-safe. Raises
    ValidationError and StoreError when made; calls raise UnreachableError and RefusedError beside what
    `Registry` says.
    """

    def __init__(
        self,
        addresses: Union[str, Sequence[str]],
        *,
        state_dir: Optional[Union[str, Path]] = None,
        options: Optional[RemoteOptions] = None,
        transport: Optional[httpx.BaseTransport] = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options if options is not None else RemoteOptions()
        checked = checked_addresses(addresses, allow_plaintext=self._options.allow_plaintext)
        self._sender = Sender(checked, self._options, transport=transport, sleep=sleep)
        self._sleep = sleep
        self._lock = threading.RLock()
        self._registrar = None if state_dir is None else Registrar(Path(state_dir), self._options, self._sender)
        self._session: Optional[NodeSession] = None
        self._sequence = 0
        self._node: Optional[Node] = None
        self._gap: Optional[Gap] = None
        self._closed = False
        self.admin = RemoteAdmin(self._order)
        self._interval_seconds = self._options.interval_seconds
        self.last_registration: Optional[RegistrationReply] = None
        self.withheld: tuple[str, ...] = ()  # why this node is given no work, as last told
        self.degraded = False  # did so many fall silent at once that none is called down, when last listed?
        self.damaged = 0  # nodes that the coordinator left out, since it cannot read what it keeps of them; as above

    @property
    def asked_interval_seconds(self) -> float:
        """How often the coordinator asks to hear from this node; 0 while it has not said so."""
        return self._session.interval_seconds if self._session is not None else 0.0

    def report_gap(self, gap: Mapping[str, Any]) -> None:
        """Tell what was measured while reports could not be delivered, once, with the next heartbeat that arrives.

        `gap` is the plain form of `wire.shapes.Gap`. Raises ValidationError.
        """
        try:
            converted = msgspec.convert(gap, Gap)
        except msgspec.ValidationError as error:
            raise ValidationError("gap", dict(gap), str(error)) from None
        with self._lock:
            self._gap = converted

    def leave(self, node_id: str) -> None:
        """Say that this node goes in good order, so that its silence is no failure. Nothing where it has no session."""
        session = self._session
        if session is None or self._registrar is None or node_id != self._registrar.node_id:
            return
        headers = {"authorization": f"Bearer {session.token}"}
        self._good("POST", _path(node_id, "leave"), headers=headers, node_id=node_id)

    def register_node(self, node: Node, *, interval_seconds: Optional[float] = None) -> str:
        """As `Registry.register_node`; signed when it is the node of `state_dir`."""
        interval = limits.optional_number(
            "interval_seconds", interval_seconds, SHORTEST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS
        )
        self._interval_seconds = interval or self._options.interval_seconds
        limits.instance("node", node, Node)
        self._check_open()
        if self._registrar is not None and node.id == self._registrar.node_id:
            with self._lock:
                self._register(node)
            return node.id
        said = Registration(node=node_to_plain(node), interval_seconds=self._interval_seconds)
        body = msgspec.json.encode(said)
        self._good("PUT", _path(node.id), body=body, node_id=node.id)
        return node.id

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        """As `Registry.update_node_health`; for the own node within its session, which is renewed when it ended."""
        self._check_open()
        gauges = (
            limits.optional_number("load_average", load_average, 0, limits.MAX_LOAD_AVERAGE),
            limits.optional_number("memory_usage", memory_usage, 0, 100),
            limits.optional_number("disk_usage", disk_usage, 0, 100),
        )
        if self._registrar is None or node_id != self._registrar.node_id:
            body = msgspec.json.encode(Heartbeat(0, *gauges))
            answer = self._good("PUT", _path(node_id, "heartbeat"), body=body, node_id=node_id)
            return health_from_plain(decoded(answer, HeartbeatReply).health)
        with self._lock:
            return self._beat(node_id, gauges)

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
        """As `Registry.update_node_reputation`; needs the token of a rater or operator.

        Sent again after trouble on the way only with a `task_id`: it makes the task count once.
        """
        outcome = Outcome(task_success, task_id, dimension, weight, rater).checked()
        told = TaskOutcome(outcome.success, outcome.task_id, outcome.dimension, outcome.weight, outcome.rater)
        body = msgspec.json.encode(told)
        again = task_id is not None and rater is None
        answer = self._good("POST", _path(node_id, "outcomes"), body=body, node_id=node_id, repeatable=again)
        return reputation_from_plain(decoded(answer, dict[str, Any]))

    def get_node(self, node_id: str) -> Optional[Node]:
        """As `Registry.get_node`. Without a token `ip_address` is WITHHELD_ADDRESS."""
        try:
            answer = self._good("GET", _path(node_id), node_id=node_id)
        except UnknownNodeError:
            return None
        return _node(decoded(answer, dict[str, Any]))

    def get_reputation(self, node_id: str) -> Reputation:
        """As `Registry.get_reputation`."""
        answer = self._good("GET", _path(node_id, "reputation"), node_id=node_id)
        return reputation_from_plain(decoded(answer, dict[str, Any]))

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """As `Registry.explain_node`."""
        limits.instance("query", query, NodeQuery)
        asked = _query(replace(query, order=NodeOrder.REPUTATION, after=None))
        return decoded(self._good("GET", _path(node_id, "explain"), query=asked, node_id=node_id), _Explanation).failing

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
        """As `Registry.list_nodes`, read in pages; nodes that change places meanwhile may be missed or come twice.

        A draw (`order` other than by reputation) has no pages: it needs a `limit` of at most 1,000.
        """
        ordered = limits.choice("order", order, NodeOrder)
        demand = NodeQuery(
            min_reputation,
            only_healthy,
            min_capabilities,
            wallet_address,
            gpus,
            tags,
            exclude,
            ordered,
            seed,
            limit,
            after,
            min_uptime_probability,
        )
        if ordered is not NodeOrder.REPUTATION and (limit is None or limit > PAGE):
            raise ValidationError("limit", limit, f"must be from 1 to {PAGE} in a draw: it has no pages")
        nodes: list[Node] = []
        query = _query(demand)
        while limit is None or len(nodes) < limit:
            query["limit"] = str(PAGE if limit is None else min(PAGE, limit - len(nodes)))
            page = decoded(self._good("GET", "/v1/nodes", query=query), _Page)
            self.degraded, self.damaged = page.degraded, page.damaged
            nodes.extend(_node(plain) for plain in page.nodes)
            if not page.next:
                break
            query["after"] = page.next
        return nodes

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
        """As `Registry.count_nodes`. With `min_uptime_probability` it reads the whole list."""
        if min_uptime_probability:
            found = self.list_nodes(
                min_reputation,
                only_healthy,
                min_capabilities,
                wallet_address=wallet_address,
                gpus=gpus,
                tags=tags,
                exclude=exclude,
                min_uptime_probability=min_uptime_probability,
            )
            return len(found)
        demand = NodeQuery(min_reputation, only_healthy, min_capabilities, wallet_address, gpus, tags, exclude)
        return decoded(self._good("GET", "/v1/count", query=_query(demand)), _Count).count

    def deregister_node(self, node_id: str) -> bool:
        """As `Registry.deregister_node`."""
        self._check_open()
        headers = self._bearer()
        if self._session is not None and self._registrar is not None and node_id == self._registrar.node_id:
            headers = {"authorization": f"Bearer {self._session.token}"}
        try:
            self._good("DELETE", _path(node_id), node_id=node_id, headers=headers)
        except UnknownNodeError:
            return False
        return True

    def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        self._sender.close()

    def __enter__(self) -> RemoteRegistry:
        return self

    def __exit__(
        self, _kind: Optional[type[BaseException]], _error: Optional[BaseException], _trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _register(self, node: Node) -> NodeSession:
        assert self._registrar is not None
        session, self.last_registration = self._registrar.register(node, self._interval_seconds)
        self._session = session
        self._sequence = 0
        self._node = node
        return session

    def _beat(self, node_id: str, gauges: tuple[Optional[float], Optional[float], Optional[float]]) -> NodeHealth:
        """A heartbeat; where the session has ended, one registration and one more heartbeat."""
        if self._session is None or self._node is None:
            raise UnknownNodeError(node_id)
        session = self._session
        answer = self._send_beat(session, gauges)
        if answer.status in (401, 403, 409):  # not signed: what it means shows in the answer to a registration
            self._sleep(random.uniform(0, min(1.0, self._options.interval_seconds / 10)))  # noqa: S311 - spreads load
            session = self._register(self._node)
            answer = self._send_beat(session, gauges)
        if answer.status == 404:
            self._session = None
        if answer.status != 200:
            raise_for(answer, node_id)
        reply = decoded(answer, HeartbeatReply)
        self._session = NodeSession(session.token, session.generation, reply.interval_seconds)
        self._gap = None
        self.withheld = tuple(f"{each.condition} is {each.found}: {each.remedy}" for each in reply.withheld)
        return health_from_plain(reply.health)

    def _send_beat(
        self, session: NodeSession, gauges: tuple[Optional[float], Optional[float], Optional[float]]
    ) -> Answer:
        self._sequence += 1
        body = msgspec.json.encode(Heartbeat(self._sequence, *gauges, gap=self._gap))
        headers = {"authorization": f"Bearer {session.token}"}
        path = _path(self._registrar.node_id if self._registrar is not None else "", "heartbeat")
        return self._sender.send("PUT", path, body=body, headers=lambda: headers)

    def _order(self, method: str, node_id: str, part: str, body: Optional[bytes]) -> None:
        self._good(method, _path(node_id, part), body=body, node_id=node_id)

    def _good(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Mapping[str, Union[str, list[str]]]] = None,
        body: Optional[bytes] = None,
        node_id: str = "",
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = True,
    ) -> Answer:
        """The answer when it is a success, else the error that it means."""
        self._check_open()
        sent = self._bearer() if headers is None else headers
        answer = self._sender.send(method, path, query=query, body=body, headers=lambda: sent, repeatable=repeatable)
        if not 200 <= answer.status < 300:
            raise_for(answer, node_id)
        return answer

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._options.token}"} if self._options.token else {}

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosedError("this registry was closed; open it again")


class _Page(msgspec.Struct):
    nodes: list[dict[str, Any]]
    next: Optional[str] = None
    degraded: bool = False
    damaged: int = 0


class _Explanation(msgspec.Struct):
    failing: list[Failing]


class _Count(msgspec.Struct):
    count: int


def _path(node_id: object, tail: str = "") -> str:
    """The path of a node. Raises UnknownNodeError for what can be no id."""
    try:
        checked = limits.identifier("id", node_id)
    except ValidationError:
        raise UnknownNodeError(node_id if isinstance(node_id, str) else repr(node_id)) from None
    return f"/v1/nodes/{checked}" + (f"/{tail}" if tail else "")


def _query(demand: NodeQuery) -> dict[str, Union[str, list[str]]]:
    query: dict[str, Union[str, list[str]]] = {}
    if demand.min_reputation:
        query["min_reputation"] = repr(demand.min_reputation)
    if demand.only_healthy:
        query["only_healthy"] = "true"
    if demand.wallet_address is not None:
        query["wallet"] = demand.wallet_address
    least = demand.min_capabilities
    if least is not None:
        for name in ("cpu_cores", "memory_gb", "storage_gb"):
            if getattr(least, name):
                query[f"min_{name}"] = repr(getattr(least, name))
        if least.gpu_enabled:
            query["gpu"] = "true"
    if demand.gpus is not None:
        for name in ("count", "vendor", "model", "memory_gb"):
            query[f"gpu_{name}"] = str(getattr(demand.gpus, name))
    if demand.tags:
        query["tag"] = [f"{key}={value}" for key, value in demand.tags.items()]
    if demand.exclude:
        query["exclude"] = sorted(demand.exclude)
    if demand.order is not NodeOrder.REPUTATION:
        query["order"], query["seed"] = demand.order.value, str(demand.seed)
    if demand.min_uptime_probability:
        query["min_uptime_probability"] = repr(demand.min_uptime_probability)
    if demand.after is not None:
        query["after"] = demand.after
    return query


def _node(plain: dict[str, Any]) -> Node:
    plain.setdefault("ip_address", WITHHELD_ADDRESS)
    return node_from_plain(plain)


def _kind_name(answer: Answer) -> str:
    problem = problem_in(answer)
    kind = kind_of(problem.type) if problem is not None else None
    return kind.name if kind is not None else ""
