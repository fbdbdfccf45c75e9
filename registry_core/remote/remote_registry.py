"""`RemoteRegistry`: the calls of `Registry`, made to a coordinator over HTTP.

The caller is identified either as the node whose key is in `state_dir` (it may change only its own record), or by a
bearer token (operator, reader, rater). `node_session` signs, `sender` makes attempts, `answers` maps errors.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Callable, Optional, Union

import httpx
import msgspec
from msgspec import Meta

from registry_core.contract import Queries
from registry_core.errors import (
    NotSupportedError,
    RegistryClosedError,
    UnknownNodeError,
    UnreachableError,
    ValidationError,
    shown,
)
from registry_core.models import limits
from registry_core.models.encoding import health_from_plain, node_to_plain, reputation_from_plain
from registry_core.models.node import Node
from registry_core.models.reputation import Reputation
from registry_core.models.status import NodeHealth
from registry_core.query.conditions import Failing
from registry_core.query.node_query import NodeOrder, NodePage, NodeQuery
from registry_core.query.url import parameters_to_text
from registry_core.remote.admin import RemoteAdmin
from registry_core.remote.answers import Answer, decoded, raise_for, safe_text, understood
from registry_core.remote.bounds import LARGEST_ANSWER_BYTES, LARGEST_NODE_BYTES, NODES_IN_A_PAGE
from registry_core.remote.node_session import NodeSession, Registrar
from registry_core.remote.options import RemoteOptions, checked_addresses
from registry_core.remote.sender import Sender
from registry_core.rules.reputation import Outcome
from registry_core.storage.store import Unreadable
from registry_core.wire.nodes import decode_node
from registry_core.wire.shapes import (
    LONGEST_INTERVAL_SECONDS,
    SHORTEST_INTERVAL_SECONDS,
    Gap,
    Heartbeat,
    HeartbeatReply,
    Registration,
    RegistrationReply,
    TaskOutcome,
    Whole,
)

__all__ = ["RemoteRegistry"]

LARGEST_DRAW = 1000
MOST_PAGES = 20_000
"""The maximum number of pages in a list: ten million nodes. A server that sends more is not a coordinator."""


class RemoteRegistry(Queries):
    """A registry on another machine. `addresses` is one or several addresses of the same coordinator, tried in order.

    With `state_dir` it acts for the node whose key is there (the first start makes it). Thread-safe. The constructor
    raises ValidationError and StoreError; calls raise UnreachableError and RefusedError in addition to the errors of
    `Registry`.
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
        has_secrets = state_dir is not None or bool(self._options.token or self._options.join_token)
        checked = checked_addresses(addresses, self._options, has_secrets=has_secrets)
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
        self._withheld_reasons: tuple[str, ...] = ()

    @property
    def withheld_reasons(self) -> tuple[str, ...]:
        """Why the coordinator gives this node no work, according to the last heartbeat."""
        return self._withheld_reasons

    @property
    def requested_interval_seconds(self) -> float:
        """How often the coordinator wants this node to report; 0 before the first registration."""
        return self._session.interval_seconds if self._session is not None else 0.0

    def report_gap(self, gap: Mapping[str, Any]) -> None:
        """As `Reporting.report_gap`."""
        try:
            converted = msgspec.convert(gap, Gap)
        except msgspec.ValidationError as error:
            raise ValidationError("gap", dict(gap), str(error)) from None
        with self._lock:
            self._gap = converted

    def leave(self, node_id: str) -> None:
        """As `Reporting.leave`, for the node of `state_dir` once it is registered."""
        session = self._session
        if self._registrar is None or node_id != self._registrar.node_id:
            raise NotSupportedError("over the network, only the node itself can report that it leaves")
        if session is None:
            raise UnknownNodeError(node_id)
        headers = {"authorization": f"Bearer {session.token}"}
        self._good("POST", _path(node_id, "leave"), "order", headers=headers, node_id=node_id)

    def forget_waits(self) -> None:
        """Let the next call send a request even if the coordinator requested a later retry."""
        self._sender.forget_waits()

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
        registration = Registration(node=node_to_plain(node), interval_seconds=self._interval_seconds)
        body = msgspec.json.encode(registration)
        decoded(self._good("PUT", _path(node.id), "registration", body=body, node_id=node.id), RegistrationReply)
        return node.id

    def update_node_health(
        self,
        node_id: str,
        load_average: Optional[float] = None,
        memory_usage: Optional[float] = None,
        disk_usage: Optional[float] = None,
    ) -> NodeHealth:
        """As `Registry.update_node_health`; for its own node it uses the session, and renews one that has ended."""
        self._check_open()
        gauges = (
            limits.optional_number("load_average", load_average, 0, limits.MAX_LOAD_AVERAGE),
            limits.optional_number("memory_usage", memory_usage, 0, 100),
            limits.optional_number("disk_usage", disk_usage, 0, 100),
        )
        if self._registrar is None or node_id != self._registrar.node_id:
            body = msgspec.json.encode(Heartbeat(0, *gauges))
            answer = self._good("PUT", _path(node_id, "heartbeat"), "heartbeat", body=body, node_id=node_id)
            return understood(answer, health_from_plain, decoded(answer, HeartbeatReply).health)
        with self._lock, self._sender.call():
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

        Sent again after a network error only with a `task_id`, which makes the task count once.
        """
        outcome = Outcome(task_success, task_id, dimension, weight, rater).checked()
        report = TaskOutcome(outcome.success, outcome.task_id, outcome.dimension, outcome.weight, outcome.rater)
        body = msgspec.json.encode(report)
        again = task_id is not None and rater is None
        answer = self._good(
            "POST", _path(node_id, "outcomes"), "reputation", body=body, node_id=node_id, repeatable=again
        )
        return understood(answer, reputation_from_plain, decoded(answer, dict[str, Any]))

    def get_node(self, node_id: str) -> Optional[Node]:
        """As `Registry.get_node`. Without a token `ip_address` is WITHHELD_ADDRESS."""
        try:
            answer = self._good("GET", _path(node_id), "node", node_id=node_id)
        except UnknownNodeError:
            return None
        return _nodes_in(answer, [answer.body])[0]

    def get_reputation(self, node_id: str) -> Reputation:
        """As `Registry.get_reputation`."""
        answer = self._good("GET", _path(node_id, "reputation"), "reputation", node_id=node_id)
        return understood(answer, reputation_from_plain, decoded(answer, dict[str, Any]))

    def explain_node(self, node_id: str, query: NodeQuery) -> list[Failing]:
        """As `Registry.explain_node`."""
        limits.instance("query", query, NodeQuery)
        parameters = parameters_to_text(replace(query, order=NodeOrder.REPUTATION, after=None))
        answer = self._good("GET", _path(node_id, "explain"), "explanation", query=parameters, node_id=node_id)
        return [
            Failing(*(safe_text(text) for text in (item.condition, item.wanted, item.found, item.remedy)))
            for item in decoded(answer, _Explanation).failing
        ]

    def find_nodes(
        self,
        query: NodeQuery,
        *,
        unreadable: Optional[Unreadable] = None,  # noqa: ARG002 - the coordinator omits damaged nodes
    ) -> NodePage:
        """As `Registry.find_nodes`, read in pages; nodes whose order changes meanwhile may be missing or repeated.

        A draw (`order` other than by reputation) has no pages: it needs a `limit` of at most 1,000. Raises
        UnreachableError for an endless list: a repeated cursor, or more than `MOST_PAGES` pages.
        """
        limits.instance("query", query, NodeQuery)
        limit = query.limit
        is_draw = query.order is not NodeOrder.REPUTATION
        if is_draw and (limit is None or limit > LARGEST_DRAW):
            raise ValidationError("limit", limit, f"must be from 1 to {LARGEST_DRAW} in a draw: it has no pages")
        largest_page = LARGEST_DRAW if is_draw else NODES_IN_A_PAGE
        self._check_open()
        found = NodePage([], query.after)
        cursors = {query.after}
        while limit is None or len(found.nodes) < limit:
            wanted = largest_page if limit is None else min(largest_page, limit - len(found.nodes))
            page = self._read_page(query, found.next, wanted, cursors)
            found.nodes.extend(page.nodes)
            found = NodePage(found.nodes, page.next, found.degraded or page.degraded, page.damaged)
            if page.next is None:
                return found
            cursors.add(page.next)
        return found if found.nodes else NodePage([], None)

    def _read_page(
        self, query: NodeQuery, after: Optional[str], wanted: int, cursors: Collection[Optional[str]]
    ) -> NodePage:
        """At most `wanted` nodes after the cursor `after`; `cursors` are those of the previous pages."""
        parameters = {**parameters_to_text(query), "limit": str(wanted)}
        if after is not None:
            parameters["after"] = after
        answer = self._good("GET", "/v1/nodes", "node", query=parameters, nodes=wanted)
        page = decoded(answer, _Page)
        if len(page.nodes) > wanted:
            raise _odd(answer, f"{len(page.nodes)} nodes, but at most {wanted} were requested")
        if page.next in cursors and page.next is not None:
            raise _odd(answer, f"the list is endless: the cursor {shown(page.next)} is repeated")
        if len(cursors) > MOST_PAGES:
            raise _odd(answer, f"the list is endless: more than {MOST_PAGES} pages")
        return NodePage(_nodes_in(answer, page.nodes), page.next or None, page.degraded, page.damaged)

    def count(self, query: NodeQuery) -> int:
        """As `Registry.count`. With `min_uptime_probability` it reads the whole list."""
        limits.instance("query", query, NodeQuery)
        every = replace(query, order=NodeOrder.REPUTATION, limit=None, after=None)
        if every.min_uptime_probability:
            return len(self.find_nodes(every).nodes)
        return decoded(self._good("GET", "/v1/count", "count", query=parameters_to_text(every)), _Count).count

    def deregister_node(self, node_id: str) -> bool:
        """As `Registry.deregister_node`."""
        self._check_open()
        headers = self._bearer()
        if self._session is not None and self._registrar is not None and node_id == self._registrar.node_id:
            headers = {"authorization": f"Bearer {self._session.token}"}
        try:
            self._good("DELETE", _path(node_id), "order", node_id=node_id, headers=headers)
        except UnknownNodeError:
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
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
        session = self._session = self._registrar.register(node, self._interval_seconds)
        self._sequence = 0
        self._node = node
        return session

    def _beat(self, node_id: str, gauges: tuple[Optional[float], Optional[float], Optional[float]]) -> NodeHealth:
        """Send a heartbeat; if the session has ended, register again and send one more heartbeat."""
        if self._session is None or self._node is None:
            raise UnknownNodeError(node_id)
        session = self._session
        answer = self._send_beat(session, gauges)
        if answer.status in (401, 403, 409):  # not signed: a registration shows the real reason
            self._sleep(random.uniform(0, min(1.0, self._options.interval_seconds / 10)))  # noqa: S311 - spreads load
            session = self._register(self._node)
            answer = self._send_beat(session, gauges)
        if answer.status == 404:
            self._session = None
        if answer.status != 200:
            raise_for(answer, node_id)
        reply = decoded(answer, HeartbeatReply)
        health = understood(answer, health_from_plain, reply.health)
        self._session = NodeSession(session.token, session.generation, reply.interval_seconds)
        self._gap = None
        self._withheld_reasons = tuple(
            safe_text(f"{each.condition} is {each.found}: {each.remedy}") for each in reply.withheld
        )
        return health

    def _send_beat(
        self, session: NodeSession, gauges: tuple[Optional[float], Optional[float], Optional[float]]
    ) -> Answer:
        self._sequence += 1
        body = msgspec.json.encode(Heartbeat(self._sequence, *gauges, gap=self._gap))
        headers = {"authorization": f"Bearer {session.token}"}
        path = _path(self._registrar.node_id if self._registrar is not None else "", "heartbeat")
        return self._sender.send(
            "PUT", path, largest_bytes=LARGEST_ANSWER_BYTES["heartbeat"], body=body, headers=lambda: headers
        )

    def _order(self, method: str, node_id: str, part: str, body: Optional[bytes]) -> None:
        self._good(method, _path(node_id, part), "order", body=body, node_id=node_id)

    def _good(
        self,
        method: str,
        path: str,
        kind: str,
        *,
        query: Optional[Mapping[str, Union[str, list[str]]]] = None,
        body: Optional[bytes] = None,
        node_id: str = "",
        headers: Optional[Mapping[str, str]] = None,
        repeatable: bool = True,
        nodes: int = 0,
    ) -> Answer:
        """The answer if it is a success; otherwise raises its error. `kind` is a key of `LARGEST_ANSWER_BYTES`.

        `nodes`: the maximum number of nodes in the answer, if it is a page of nodes.
        """
        self._check_open()
        sent = self._bearer() if headers is None else headers
        answer = self._sender.send(
            method,
            path,
            largest_bytes=LARGEST_ANSWER_BYTES[kind] + nodes * LARGEST_NODE_BYTES,
            query=query,
            body=body,
            headers=lambda: sent,
            repeatable=repeatable,
        )
        if not 200 <= answer.status < 300:
            raise_for(answer, node_id)
        if kind == "order" and answer.status != 204:
            decoded(answer, dict[str, Any])  # a sign-in page that answers 200 to every request is not a coordinator
        return answer

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._options.token}"} if self._options.token else {}

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosedError("this registry was closed; open it again")


_Text = Annotated[str, Meta(max_length=128 * 1024)]  # one may list 256 GPUs, each with its name or its reason


class _Page(msgspec.Struct):
    nodes: Annotated[list[msgspec.Raw], Meta(max_length=LARGEST_DRAW)]
    next: Optional[Annotated[str, Meta(max_length=128)]] = None
    degraded: bool = False
    damaged: Whole = 0


class _Failing(msgspec.Struct):
    condition: Annotated[str, Meta(max_length=256)]
    wanted: _Text
    found: _Text
    remedy: _Text


class _Explanation(msgspec.Struct):
    failing: Annotated[list[_Failing], Meta(max_length=256)]


class _Count(msgspec.Struct):
    count: Whole


def _path(node_id: object, tail: str = "") -> str:
    """The path of a node. Raises UnknownNodeError for an invalid id."""
    try:
        checked = limits.identifier("id", node_id)
    except ValidationError:
        raise UnknownNodeError(node_id if isinstance(node_id, str) else repr(node_id)) from None
    return f"/v1/nodes/{checked}" + (f"/{tail}" if tail else "")


def _nodes_in(answer: Answer, texts: Sequence[Union[bytes, msgspec.Raw]]) -> list[Node]:
    """The nodes in parts of a successful answer. Raises UnreachableError for anything that is not a node."""
    nodes: list[Node] = []
    try:
        for text in texts:
            nodes.append(decode_node(bytes(text)))  # noqa: PERF401 - the error needs the number of nodes read
    except ValidationError as error:
        raise _odd(answer, f"nodes[{len(nodes)}]: {error}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _odd(answer, str(error)) from None
    return nodes


def _odd(answer: Answer, what: str) -> UnreachableError:
    return UnreachableError(answer.address, f"does not answer like a coordinator: {safe_text(what)}")
