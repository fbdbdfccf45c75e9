"""What `Registry` promises, held by the embedded registry and by one across HTTP alike. No test asks which it has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import pytest

from registry_core.contract import Registry, Reporting
from registry_core.embedded.node_registry import NodeRegistry
from registry_core.errors import (
    NotSupportedError,
    RegistryClosedError,
    RegistryError,
    UnknownNodeError,
    ValidationError,
)
from registry_core.identity.identity_files import ensure_identity
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.status import Admission, Condition, Liveness
from registry_core.query.node_query import GpuDemand, NodeOrder, NodePage, NodeQuery
from registry_core.remote import RemoteOptions, RemoteRegistry
from tests.support.coordinators import Running

LARGE = NodeCapabilities(cpu_cores=16, memory_gb=64.0, storage_gb=1000.0, gpus=(Gpu("NVIDIA", "L4", 24.0),))


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("coordinator") / "state") as running:
        yield running


@pytest.fixture(params=["embedded", "remote"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "embedded":
        with NodeRegistry(tmp_path / "nodes.json") as embedded:
            yield embedded
        return
    running: Running = request.getfixturevalue("coordinator")
    options = RemoteOptions(token=running.operator_token())
    with RemoteRegistry(running.address, options=options) as remote:
        yield remote
    with RemoteRegistry(running.address, options=options) as remote:
        for node in remote.list_nodes():
            remote.deregister_node(node.id)


@pytest.fixture(params=["embedded", "remote"])
def own_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Registry, Node]]:
    """A registry as a node's agent has it, and the node that it speaks for."""
    if request.param == "embedded":
        with NodeRegistry(tmp_path / "nodes.json") as embedded:
            yield embedded, Node("192.0.2.1", id="own")
        return
    running: Running = request.getfixturevalue("coordinator")
    identity = ensure_identity(tmp_path)
    with RemoteRegistry(running.address, state_dir=tmp_path) as remote:
        yield remote, Node("192.0.2.1", id=identity.id)
        remote.deregister_node(identity.id)


def ids(nodes: list[Node]) -> list[str]:
    return [node.id for node in nodes]


def test_a_registered_node_is_shown_as_it_described_itself(registry: Registry) -> None:
    node = Node(
        "192.0.2.7",
        "0xwallet",
        LARGE,
        id="a:b_c.d-1",
        addresses=("192.0.2.7", "2001:db8::7"),
        port=8443,
        hostname="host-ü",
        os_version="Debian 12",
        tags={"zone": "eu/1", "ü": "✓"},
        extra={"from_the_future": [1, {"x": None}]},
    )
    assert registry.register_node(node) == "a:b_c.d-1"
    found = registry.get_node("a:b_c.d-1")
    assert found is not None
    for name in ("ip_address", "addresses", "port", "hostname", "os_version", "tags", "capabilities", "wallet_address"):
        assert getattr(found, name) == getattr(node, name)
    assert found.extra["from_the_future"] == (1, {"x": None})
    assert (found.admission, found.liveness, found.is_ready) == (Admission.PROBATION, Liveness.LIVE, True)
    assert found.registered_at is not None


def test_registering_again_updates_and_keeps_history(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", id="a", hostname="before"))
    first = registry.get_node("a")
    registry.update_node_reputation("a", True)
    registry.register_node(Node("192.0.2.1", id="a", hostname="after", reputation=5.0, admission=Admission.APPROVED))
    again = registry.get_node("a")
    assert first is not None
    assert again is not None
    assert again.hostname == "after"
    assert again.registered_at == first.registered_at
    assert again.reputation > first.reputation
    assert again.admission is Admission.PROBATION


def test_a_sample_is_judged_and_shown(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", id="a", capabilities=NodeCapabilities(cpu_cores=4)))
    health = registry.update_node_health("a", load_average=1.5, memory_usage=95.0)
    assert (health.load_average, health.memory_usage, health.disk_usage) == (1.5, 95.0, None)
    assert health.conditions.load is Condition.OK
    assert health.conditions.memory is Condition.CRITICAL
    assert health.conditions.disk is Condition.UNKNOWN
    assert health.last_heartbeat is not None
    found = registry.get_node("a")
    assert found is not None
    assert found.health.conditions == health.conditions
    assert not found.is_healthy
    assert registry.list_nodes(only_healthy=True) == []


def test_outcomes_make_a_reputation(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", id="worker"))
    scores = [registry.update_node_reputation("worker", True).score for _ in range(5)]
    assert scores == sorted(scores)
    assert scores[-1] == pytest.approx(3.03, abs=0.01)
    reputation = registry.get_reputation("worker")
    assert reputation.score == pytest.approx(scores[-1])
    assert sum(evidence.successes for evidence in reputation.evidence.values()) == pytest.approx(5, abs=0.02)


def test_queries_find_what_meets_every_condition_in_order(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", "w1", LARGE, id="large"))
    registry.register_node(Node("192.0.2.2", "w2", NodeCapabilities(cpu_cores=2, memory_gb=4.0), id="small"))
    registry.register_node(Node("192.0.2.3", "w1", LARGE, id="rated"))
    for _ in range(3):
        registry.update_node_reputation("rated", True)
    assert ids(registry.list_nodes()) == ["rated", "large", "small"]
    assert ids(registry.list_nodes(min_reputation=1.0)) == ["rated"]
    assert ids(registry.list_nodes(min_capabilities=NodeCapabilities(cpu_cores=4))) == ["rated", "large"]
    assert ids(registry.list_nodes(min_capabilities=NodeCapabilities(memory_gb=64.0, gpu_enabled=True))) == [
        "rated",
        "large",
    ]
    assert ids(registry.list_nodes(wallet_address="w2")) == ["small"]
    assert ids(registry.list_nodes(limit=2)) == ["rated", "large"]
    assert registry.list_nodes(limit=0) == []
    assert registry.count_nodes(wallet_address="w1") == 2
    assert registry.count_nodes(min_reputation=5.0) == 0


def test_queries_ask_for_gpus_tags_and_draws_alike(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", capabilities=LARGE, id="large", tags={"zone": "a & b", "rack": "1"}))
    registry.register_node(Node("192.0.2.2", id="small", tags={"zone": "a & b"}))
    assert ids(registry.list_nodes(gpus=GpuDemand(vendor="nvidia", model="l4", memory_gb=24.0))) == ["large"]
    assert registry.list_nodes(gpus=GpuDemand(2)) == []
    assert ids(registry.list_nodes(tags={"zone": "a & b", "rack": "1"})) == ["large"]
    assert ids(registry.list_nodes(tags={"zone": "a & b"}, exclude=["large", "nobody"])) == ["small"]
    assert ids(registry.list_nodes(after="large")) == ["small"]
    assert registry.count_nodes(gpus=GpuDemand()) == registry.count_nodes(tags={"rack": "1"}) == 1
    assert registry.count_nodes(exclude=["large", "small"]) == 0
    drawn = ids(registry.list_nodes(order="random", seed=7, limit=10))
    assert sorted(drawn) == ["large", "small"]
    assert ids(registry.list_nodes(order="random", seed=7, limit=10)) == drawn
    registry.update_node_health("large", load_average=3.0)
    assert ids(registry.list_nodes(order="least_loaded", limit=1)) == ["large"]  # the other's load is not known


def test_pages_go_on_behind_the_cursor_also_when_its_node_is_gone(registry: Registry) -> None:
    for number in range(1, 8):
        registry.register_node(Node(f"192.0.2.{number}", id=f"node-{number}"))
    registry.update_node_reputation("node-4", True)
    seen: list[str] = []
    cursor: Optional[str] = None
    while True:
        page = registry.find_nodes(NodeQuery(limit=3, after=cursor, exclude=["node-5"]))
        seen += ids(page.nodes)
        assert (page.degraded, page.damaged) == (False, 0)
        cursor = page.next
        if cursor is None:
            break
        assert registry.deregister_node(seen[-1])
    assert seen == ["node-4", "node-1", "node-2", "node-3", "node-6", "node-7"]
    assert registry.find_nodes(NodeQuery(limit=0)) == NodePage([], None)
    assert registry.find_nodes(NodeQuery()).next is None
    assert registry.find_nodes(NodeQuery(order=NodeOrder.RANDOM, limit=2)).next is None
    with pytest.raises(ValidationError, match="after"):
        registry.find_nodes(NodeQuery(after="node-2"))  # an id is a cursor as long as its node is there
    with pytest.raises(ValidationError, match="query"):
        registry.find_nodes({"limit": 3})  # type: ignore[arg-type]  # that is the point


def test_pages_of_nodes_that_will_probably_stay_go_on_behind_a_node_that_is_gone(registry: Registry) -> None:
    for number in range(1, 6):
        registry.register_node(Node(f"192.0.2.{number}", id=f"stay-{number}"))
    page = registry.find_nodes(NodeQuery(limit=2, min_uptime_probability=0.01))
    assert ids(page.nodes) == ["stay-1", "stay-2"]
    assert registry.deregister_node("stay-2")
    page = registry.find_nodes(NodeQuery(limit=2, min_uptime_probability=0.01, after=page.next))
    assert ids(page.nodes) == ["stay-3", "stay-4"]


def test_a_count_looks_at_no_order_limit_or_cursor(registry: Registry) -> None:
    for number in range(1, 4):
        registry.register_node(Node(f"192.0.2.{number}", id=f"node-{number}", tags={"odd": str(number % 2)}))
    assert registry.count(NodeQuery()) == registry.count_nodes() == 3
    assert registry.count(NodeQuery(tags={"odd": "1"}, limit=1)) == 2
    assert registry.count(NodeQuery(tags={"odd": "1"}, after="node-1")) == 2
    assert registry.count(NodeQuery(order=NodeOrder.LEAST_LOADED, seed=3, limit=1)) == 3
    assert registry.count(NodeQuery(min_uptime_probability=0.01, limit=1)) == 3
    assert registry.count(NodeQuery(min_uptime_probability=0.01, order=NodeOrder.RANDOM, limit=1)) == 3
    with pytest.raises(ValidationError, match="query"):
        registry.count(None)  # type: ignore[arg-type]  # that is the point


def test_a_node_reports_and_leaves_alike(own_registry: tuple[Registry, Node]) -> None:
    registry, node = own_registry
    reporting: Reporting = registry
    with pytest.raises(UnknownNodeError):
        reporting.leave(node.id)
    reporting.register_node(node, interval_seconds=15.0)
    assert reporting.requested_interval_seconds >= 0.0
    reporting.report_gap(
        {"from": "2026-01-31T12:00:00Z", "to": "2026-01-31T12:05:00Z", "samples": 3, "reason": "x", "gauges": {}}
    )
    reporting.update_node_health(node.id, 1.0, 2.0, 3.0)
    assert reporting.withheld_reasons == ()

    def liveness() -> Liveness:
        found = registry.get_node(node.id)
        assert found is not None
        return found.liveness

    reporting.leave(node.id)
    reporting.leave(node.id)
    assert liveness() is Liveness.LEFT
    reporting.update_node_health(node.id, 1.0)
    assert liveness() is Liveness.LIVE
    with pytest.raises((UnknownNodeError, NotSupportedError)):
        reporting.leave("nobody")


def test_queries_ask_for_nodes_that_will_probably_stay(registry: Registry) -> None:
    for number in range(3):
        registry.register_node(Node(f"192.0.2.{number}", id=f"node-{number}"))
    for least, expected in ((0.01, 3), (0.999999, 0)):  # no hour was observed yet: all are the network's mean
        assert len(registry.list_nodes(min_uptime_probability=least)) == expected
        assert registry.count_nodes(min_uptime_probability=least) == expected
        assert len(registry.list_nodes(min_uptime_probability=least, order="random", limit=10)) == expected
    assert ids(registry.list_nodes(min_uptime_probability=0.01, limit=2)) == ["node-0", "node-1"]
    assert ids(registry.list_nodes(min_uptime_probability=0.01, after="node-1")) == ["node-2"]
    with pytest.raises(ValidationError, match="min_uptime_probability"):
        registry.list_nodes(min_uptime_probability=1.5)


def test_every_condition_at_once_is_a_question_that_both_understand(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", "w", LARGE, id="one", tags={"zone": "a"}))
    least = NodeCapabilities(cpu_cores=16, memory_gb=64.0, storage_gb=1000.0, gpu_enabled=True)
    conditions: dict[str, Any] = {
        "min_capabilities": least,
        "wallet_address": "w",
        "gpus": GpuDemand(1, "nvidia", "l4", 24.0),
        "tags": {"zone": "a"},
        "exclude": ["other"],
    }
    assert ids(registry.list_nodes(0.0, True, **conditions, min_uptime_probability=0.01, limit=5)) == ["one"]
    for order in ("random", "least_loaded", "explore"):
        assert ids(registry.list_nodes(0.0, True, **conditions, order=order, seed=3, limit=5)) == ["one"]
    assert registry.list_nodes(4.9, True, **conditions, after="one") == []
    assert registry.count_nodes(0.0, True, **conditions) == 1
    assert registry.count_nodes(4.9, **conditions, min_uptime_probability=0.01) == 0


def test_a_node_is_told_which_conditions_it_fails(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", "w", LARGE, id="large", tags={"zone": "a"}))

    def failed(query: NodeQuery) -> list[str]:
        found = registry.explain_node("large", query)
        assert all(item.wanted and item.remedy for item in found)
        return [item.condition for item in found]

    assert failed(NodeQuery()) == []
    assert failed(NodeQuery(0.0, True, NodeCapabilities(cpu_cores=16), tags={"zone": "a"})) == []
    assert failed(NodeQuery(3.0, min_capabilities=NodeCapabilities(cpu_cores=17, memory_gb=64.0))) == [
        "min_reputation",
        "cpu_cores",
    ]
    assert failed(NodeQuery(wallet_address="x", gpus=GpuDemand(2), tags={"zone": "b"}, exclude=["large"])) == [
        "gpus",
        "wallet",
        "tag zone",
        "exclude",
    ]
    assert failed(NodeQuery(min_uptime_probability=0.999999)) == ["min_uptime_probability"]
    registry.update_node_health("large", memory_usage=99.0)
    assert failed(NodeQuery(only_healthy=True)) == ["condition memory"]
    assert registry.explain_node("large", NodeQuery(limit=0, after="large")) == []  # a page is no condition
    assert registry.explain_node("large", NodeQuery(order=NodeOrder.RANDOM, seed=7)) == []
    with pytest.raises(ValidationError, match="query"):
        registry.explain_node("large", {"min_reputation": 3})  # type: ignore[arg-type]  # that is the point


def test_operators_admit_and_cordon_alike(registry: Registry) -> None:
    admin = registry.admin
    registry.register_node(Node("192.0.2.1", id="judged"))

    def now() -> tuple[str, str, bool]:
        node = registry.get_node("judged")
        assert node is not None
        return str(node.admission), node.admission_reason, node.is_ready

    admin.approve("judged", actor="op")
    assert now() == ("approved", "", True)
    admin.suspend("judged", reason="audit", actor="op")
    assert now() == ("suspended", "audit", False)
    admin.put_on_probation("judged")
    assert now() == ("probation", "", True)
    until = datetime(2126, 1, 31, 12, tzinfo=timezone.utc)
    admin.cordon("judged", reason="new disk", until=until)
    node = registry.get_node("judged")
    assert node is not None
    assert node.cordon is not None
    assert (node.cordon.reason, node.cordon.until, node.is_ready) == ("new disk", until, False)
    admin.uncordon("judged")
    admin.uncordon("judged")  # not cordoned: no error
    assert now() == ("probation", "", True)
    admin.ban("judged", reason="fake GPUs")
    assert now() == ("banned", "fake GPUs", False)
    for order in (admin.suspend, admin.put_on_probation):
        with pytest.raises(ValidationError, match="admission"):
            order("judged")
    with pytest.raises(ValidationError, match="reason"):
        admin.approve("judged", reason="a\x1b[2J")
    for order in (admin.approve, admin.cordon, admin.uncordon):
        with pytest.raises(UnknownNodeError):
            order("nobody")


def test_an_unknown_node_is_none_in_a_query_and_an_error_in_an_update(registry: Registry) -> None:
    for unknown in ("unknown", "..", "a/b", "ü", "x" * 300, "%2e"):
        assert registry.get_node(unknown) is None
        assert registry.deregister_node(unknown) is False
        with pytest.raises(UnknownNodeError):
            registry.update_node_health(unknown, 1.0, 1.0, 1.0)
        with pytest.raises(UnknownNodeError):
            registry.update_node_reputation(unknown, True)
        with pytest.raises(UnknownNodeError):
            registry.get_reputation(unknown)
        with pytest.raises(UnknownNodeError):
            registry.explain_node(unknown, NodeQuery())


def test_a_removed_node_is_gone_once(registry: Registry) -> None:
    registry.register_node(Node("192.0.2.1", id="a"))
    assert registry.deregister_node("a") is True
    assert registry.deregister_node("a") is False
    assert registry.get_node("a") is None


@pytest.mark.parametrize(
    ("gauges", "field"),
    [
        ({"load_average": -1.0}, "load_average"),
        ({"memory_usage": 101.0}, "memory_usage"),
        ({"disk_usage": float("nan")}, "disk_usage"),
        ({"load_average": "1"}, "load_average"),
        ({"load_average": True}, "load_average"),
    ],
)
def test_a_bad_gauge_is_refused_by_name_and_changes_nothing(
    registry: Registry, gauges: dict[str, Any], field: str
) -> None:
    registry.register_node(Node("192.0.2.1", id="a"))
    before = registry.get_node("a")
    with pytest.raises(ValidationError, match=field):
        registry.update_node_health("a", **gauges)
    assert registry.get_node("a") == before


def test_bad_questions_are_refused_by_name(registry: Registry) -> None:
    with pytest.raises(ValidationError, match="min_reputation"):
        registry.list_nodes(min_reputation=6.0)
    with pytest.raises(ValidationError, match="limit"):
        registry.list_nodes(limit=-1)
    with pytest.raises(ValidationError, match=r"min_capabilities\.cpu_model"):
        registry.count_nodes(min_capabilities=NodeCapabilities(cpu_model="x"))
    registry.register_node(Node("192.0.2.1", id="a"))
    with pytest.raises(ValidationError, match="task_success"):
        registry.update_node_reputation("a", 1)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValidationError, match="node"):
        registry.register_node({"ip_address": "192.0.2.1"})  # type: ignore[arg-type]  # that is the point


def test_a_closed_registry_says_so(registry: Registry) -> None:
    registry.close()
    registry.close()
    with pytest.raises(RegistryClosedError):
        registry.get_node("a")
    with pytest.raises(RegistryError):
        registry.register_node(Node("192.0.2.1", id="a"))
