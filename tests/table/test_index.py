"""The law of the index: for any registry and any query it returns what a plain scan returns, in the same order."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_core import Gpu, GpuDemand, Node, NodeCapabilities, NodeOrder, NodeQuery, NodeRegistry
from registry_core.models.columns import hundredths
from registry_core.models.status import Admission
from registry_core.rules.reputation import explored
from registry_core.table import index, node_table
from registry_core.table.draw import Draw
from registry_core.table.ladder import CPU_THRESHOLDS, GB_THRESHOLDS, Ladder
from registry_core.testing import HandClock
from tests.support.builders import a_node

NODES = 14


def around(value: float) -> list[float]:
    return [math.nextafter(value, 0), value, math.nextafter(value, math.inf)] if hasattr(math, "nextafter") else [
        value * (1 - 1e-15), value, value * (1 + 1e-15)
    ]  # fmt: skip


cores = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 255, 256, 257, 65_536])
sizes = st.sampled_from([0.0, 0.5, *around(1.0), 5.0, *around(16.0), *around(100.0), *around(50_000.0), 99_999.0])
gpu_lists = st.lists(
    st.builds(
        lambda vendor, model, memory_gb, usable: Gpu(
            vendor, model, memory_gb, usable=usable, reason="" if usable else "x"
        ),
        st.sampled_from(["NVIDIA", "AMD"]),
        st.sampled_from(["H100", "NVIDIA H100 80GB", "MI300"]),
        st.sampled_from([0.0, 80.0, 192.0]),
        st.booleans(),
    ),
    max_size=3,
)
offers = st.builds(
    lambda cpu, memory, storage, gpus: NodeCapabilities(cpu, memory, storage, gpus=tuple(gpus)),
    cores, sizes, sizes, gpu_lists,
)  # fmt: skip
tags = st.dictionaries(st.sampled_from(["zone", "rack"]), st.sampled_from(["a", "b", "ä"]), max_size=2)
wallets = st.sampled_from(["", "w1", "w2"])
numbers = st.integers(1, NODES)

Command = Callable[[NodeRegistry], object]
registrations: st.SearchStrategy[Command] = st.builds(
    lambda number, offer, wallet, tag: lambda registry: registry.register_node(
        a_node(number, capabilities=offer, wallet_address=wallet, tags=tag)
    ),
    numbers, offers, wallets, tags,
)  # fmt: skip
commands: st.SearchStrategy[Command] = st.one_of(
    registrations,
    st.builds(lambda number: lambda registry: registry.deregister_node(f"node-{number}"), numbers),
    st.builds(
        lambda number, success: lambda registry: registry.get_node(f"node-{number}")
        and registry.update_node_reputation(f"node-{number}", success),
        numbers, st.booleans(),
    ),
    st.builds(
        lambda number, load, memory: lambda registry: registry.get_node(f"node-{number}")
        and registry.update_node_health(f"node-{number}", load, memory),
        numbers, st.sampled_from([None, 0.0, 1.0, 1.0, 7.0, 1e5]), st.sampled_from([None, 10.0, 85.0, 95.0]),
    ),
    st.builds(
        lambda number, command: lambda registry: registry.get_node(f"node-{number}")
        and getattr(registry.admin, command)(f"node-{number}"),
        numbers, st.sampled_from(["approve", "cordon", "uncordon"]),
    ),
)  # fmt: skip


def seldom(strategy: st.SearchStrategy[Any], otherwise: Any = None) -> st.SearchStrategy[Any]:
    """Mostly no condition: a query with all of them finds nobody, and says nothing."""
    return st.one_of(*[st.just(otherwise)] * 3, strategy)


queries = st.builds(
    NodeQuery,
    min_reputation=seldom(st.sampled_from([0.25, 0.251, 0.69, 1.12, 1.121, 5.0]), 0.0),
    only_healthy=seldom(st.just(True), False),
    min_capabilities=seldom(
        st.builds(
            NodeCapabilities,
            st.one_of(st.just(0), cores),
            st.one_of(st.just(0.0), sizes),
            st.one_of(st.just(0.0), sizes),
            seldom(st.just(True), False),
        )
    ),
    wallet_address=seldom(wallets),
    gpus=seldom(
        st.builds(
            GpuDemand,
            st.integers(1, 3),
            st.sampled_from(["", "nvidia"]),
            st.sampled_from(["", "h100"]),
            st.sampled_from([0.0, 80.0, 80.5]),
        )
    ),
    tags=seldom(tags, {}),
    exclude=seldom(st.lists(st.builds("node-{}".format, numbers), max_size=3), ()),
    order=st.sampled_from(NodeOrder),
    seed=st.integers(0, 3),
    limit=st.sampled_from([None, 0, 1, 3, 1000]),
)


@pytest.fixture(autouse=True)
def _the_index_answers_from_the_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thresholds are tuning; the law holds for any of them."""
    monkeypatch.setattr(index, "FEW", 3)
    monkeypatch.setattr(index, "MANY_GPU_KINDS", 3)
    monkeypatch.setattr(node_table, "FEWEST_TO_COMPACT", 4)


def in_order_of_registration(registry: NodeRegistry) -> list[Node]:
    slots = registry._live_state._table.slots
    nodes = [registry.get_node(node_id) for node_id in slots.ids if node_id is not None]
    return [node for node in nodes if node is not None]


def plainly(registry: NodeRegistry, query: NodeQuery) -> list[str]:
    """The definition: look at every node, sort, cut."""
    slots = registry._live_state._table.slots
    draw = Draw(query.seed, len(slots.ids))
    fitting = [node for node in in_order_of_registration(registry) if query.matches(node)]
    if query.order is NodeOrder.EXPLORE:
        fitting.sort(key=lambda node: -hundredths(node.reputation))
        ranked = [node for node in fitting if node.admission is not Admission.PROBATION]
        newcomers = [node for node in fitting if node.admission is Admission.PROBATION]
        newcomers.sort(key=lambda node: draw.place_of(slots.by_id[node.id]))
        fitting = list(explored(ranked, newcomers, str(query.seed), 0.05))
    elif query.order is NodeOrder.REPUTATION:
        fitting.sort(key=lambda node: -hundredths(node.reputation))
    else:
        fitting.sort(key=lambda node: draw.place_of(slots.by_id[node.id]))
    if query.order is NodeOrder.LEAST_LOADED:
        fitting = [node for node in fitting if node.is_ready]
        fitting = fitting if query.limit is None else fitting[: 8 * query.limit]
        fitting.sort(key=load_of)
    return [node.id for node in fitting[: query.limit]]


def load_of(node: Node) -> float:
    cpus = node.capabilities.host_cpus or node.capabilities.cpu_cores
    load = node.health.load_average
    return math.inf if load is None or not cpus else load / cpus


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.lists(registrations, min_size=12, max_size=24),
    then=st.lists(commands, min_size=5, max_size=20),
    asked=st.lists(queries, min_size=8, max_size=16),
)
def test_the_index_returns_what_a_plain_scan_returns(
    first: list[Command], then: list[Command], asked: list[NodeQuery]
) -> None:
    with NodeRegistry() as registry:
        for command in first:
            command(registry)
        registry.count_nodes()  # the index is built here, and kept in step from here on
        for command in then:
            command(registry)
        for query in asked:
            expected = plainly(registry, query)
            assert [node.id for node in registry.find_nodes(query).nodes] == expected, query
            if query.limit is None and query.order is not NodeOrder.LEAST_LOADED:
                assert registry.count(query) == len(expected), query


def test_the_least_loaded_is_drawn_from_eight_candidates_for_each_place() -> None:
    """Not from eight for a place more: an idle node beyond the draw is not returned."""
    with NodeRegistry() as registry:
        for number in range(1, 11):
            registry.register_node(a_node(number, capabilities=NodeCapabilities(cpu_cores=1)))
        for seed in range(20):
            query = NodeQuery(order=NodeOrder.LEAST_LOADED, seed=seed, limit=1)
            draw = Draw(seed, 10)
            last = max(range(10), key=draw.place_of)  # slots are given in order of registration
            for number in range(1, 11):
                registry.update_node_health(f"node-{number}", 0.0 if number == last + 1 else 1.0)
            found = [node.id for node in registry.find_nodes(query).nodes]
            assert found == plainly(registry, query)
            assert found != [f"node-{last + 1}"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.lists(st.one_of(registrations, commands), min_size=20, max_size=40),
    query=queries,
    size=st.integers(1, 5),
)
def test_pages_joined_are_the_whole_answer(first: list[Command], query: NodeQuery, size: int) -> None:
    fields = {**query.__dict__, "order": NodeOrder.REPUTATION, "limit": None}
    with NodeRegistry() as registry:
        for command in first:
            command(registry)
        expected = [node.id for node in registry.find_nodes(NodeQuery(**fields)).nodes]
        joined: list[str] = []
        cursor: Any = None
        for _ in range(NODES + 1):
            page = registry.find_nodes(NodeQuery(**{**fields, "limit": size, "after": cursor}))
            joined += [node.id for node in page.nodes]
            cursor = page.next
            if cursor is None:
                break
        assert joined == expected


def test_slots_are_closed_up_after_many_deregistrations_and_the_order_stays() -> None:
    with NodeRegistry() as registry:
        for number in range(1, 41):
            registry.register_node(a_node(number))
            registry.admin.cordon(f"node-{number}")
        for number in range(1, 41):
            if number % 10:
                registry.deregister_node(f"node-{number}")
        assert len(registry._live_state._table.slots.ids) < 20
        assert [node.id for node in registry.list_nodes()] == ["node-10", "node-20", "node-30", "node-40"]
        registry.register_node(a_node(5))
        assert registry.list_nodes()[-1].id == "node-5"
        assert registry.list_nodes(only_healthy=True) == [registry.get_node("node-5")]


def test_a_cordon_keeps_its_end_when_slots_are_closed_up() -> None:
    clock = HandClock()
    with NodeRegistry(clock=clock) as registry:
        for number in range(1, 41):
            registry.register_node(a_node(number))
        registry.admin.cordon("node-39", until=clock.wall + timedelta(seconds=10))
        registry.admin.cordon("node-40", until=clock.wall + timedelta(seconds=90))
        clock.move(30)
        for number in range(1, 39):
            registry.deregister_node(f"node-{number}")
        assert len(registry._live_state._table.slots.ids) < 20
        registry.register_node(replace(a_node(39), hostname="renamed"))  # the record still names the cordon
        assert [node.id for node in registry.list_nodes(only_healthy=True)] == ["node-39"]
        clock.move(90)
        assert [node.id for node in registry.list_nodes(only_healthy=True)] == ["node-39", "node-40"]


@pytest.mark.parametrize("thresholds", [CPU_THRESHOLDS, GB_THRESHOLDS])
def test_a_ladder_filled_at_once_equals_one_filled_slot_by_slot(thresholds: tuple[float, ...]) -> None:
    values = [0, *[value for threshold in thresholds for value in around(threshold)], 1e9]
    at_once, one_by_one = Ladder(thresholds), Ladder(thresholds)
    at_once.fill(range(len(values)), values)
    for slot, value in enumerate(values):
        one_by_one.add(slot, value)
    for least in values[1:]:
        fitting = {slot for slot, value in enumerate(values) if value >= least}
        for ladder in (at_once, one_by_one):
            rung = ladder.rung(least)
            if rung is not None:
                assert set(rung.reach) >= fitting
                assert set(rung.surely if rung.surely is not None else rung.reach) <= fitting
            assert set(ladder.surely_reached(least)) <= fitting


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), size=st.integers(1, 5000), data=st.data())
def test_a_draw_is_a_shuffle_that_knows_its_way_back(seed: int, size: int, data: st.DataObject) -> None:
    draw = Draw(seed, size)
    assert draw.size >= size
    place = data.draw(st.integers(0, draw.size - 1))
    assert draw.place_of(draw.slot_at(place)) == place


def test_a_draw_gives_everybody_about_the_same_chance() -> None:
    counts = [0] * 64
    for seed in range(2000):
        draw = Draw(seed, 64)
        for place in range(4):
            counts[draw.slot_at(place)] += 1
    expected = 2000 * 4 / 64
    assert all(0.6 * expected < count < 1.4 * expected for count in counts), counts


def test_what_a_node_no_longer_has_finds_it_no_more() -> None:
    gpus = NodeCapabilities(8, 16.0, 100.0, gpus=(Gpu("NVIDIA", "H100", 80.0),))
    with NodeRegistry() as registry:
        for number in (1, 2, 3):
            registry.register_node(a_node(number, wallet_address="w", tags={"a": "b"}, capabilities=gpus))
        asked: list[dict[str, Any]] = [
            {"wallet_address": "w"},
            {"tags": {"a": "b"}},
            {"gpus": GpuDemand()},
            {"only_healthy": True},
            {"min_capabilities": NodeCapabilities(cpu_cores=5)},
            {"min_capabilities": NodeCapabilities(gpu_enabled=True)},
        ]
        assert [registry.count_nodes(**query) for query in asked] == [3] * 6
        registry.register_node(a_node(1, capabilities=NodeCapabilities()))
        assert [registry.count_nodes(**query) for query in asked] == [2, 2, 2, 3, 2, 2]
        registry.deregister_node("node-2")
        assert [registry.count_nodes(**query) for query in asked] == [1, 1, 1, 2, 1, 1]
        registry.update_node_reputation("node-3", True)
        assert registry.count_nodes(min_reputation=0.26) == 1
        registry.deregister_node("node-3")
        assert [registry.count_nodes(**query) for query in asked] == [0, 0, 0, 1, 0, 0]
        assert registry.list_nodes(wallet_address="w", limit=5) == []
