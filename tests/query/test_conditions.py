"""The table of conditions is whole, and all that follows from it agrees: fields, index, explanations, URLs, options."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duxnet.cli.nodes import nodes as nodes_command
from registry_core.errors import ValidationError
from registry_core.models.node import Gpu, Node, NodeCapabilities
from registry_core.models.status import Admission, Condition, Conditions, Liveness, NodeHealth, Scheduling
from registry_core.query.conditions import CONDITIONS, NO_TAGS, GpuDemand
from registry_core.query.node_query import ORDER_PARAMETERS, NodeOrder, NodeQuery
from registry_core.query.url import PARAMETER_NAMES, Filters, parameters_to_text
from registry_core.table.index import BitmapIndex

texts = st.sampled_from(["", "a", "b & c", "ä=ö", "100%", "x+y"])
sizes = st.sampled_from([0.0, 0.1, 1.5, 16.0, 1e5 / 3])
queries = st.builds(
    NodeQuery,
    min_reputation=st.sampled_from([0.0, 0.25, 3.031, 5.0]),
    only_healthy=st.booleans(),
    min_capabilities=st.none() | st.builds(NodeCapabilities, st.sampled_from([0, 4]), sizes, sizes, st.booleans()),
    wallet_address=st.none() | texts,
    gpus=st.none() | st.builds(GpuDemand, st.integers(1, 3), texts, texts, sizes),
    tags=st.dictionaries(st.sampled_from(["zone", "ü", "a b"]), texts, max_size=2),
    exclude=st.sets(st.sampled_from(["a", "b", "n-1"]), max_size=2),
    order=st.sampled_from(NodeOrder),
    seed=st.integers(0, 2**63 - 1),
    min_uptime_probability=st.sampled_from([0.0, 0.5, 1.0]),
)
nodes = st.builds(
    Node,
    st.just("192.0.2.1"),
    wallet_address=texts,
    capabilities=st.builds(
        NodeCapabilities,
        st.sampled_from([0, 4, 8]),
        sizes,
        sizes,
        gpus=st.lists(st.builds(Gpu, texts, texts, sizes), max_size=2).map(tuple),
    ),
    id=st.sampled_from(["a", "c"]),
    tags=st.dictionaries(st.sampled_from(["zone", "ü"]), texts, max_size=2),
    reputation=st.sampled_from([0.0, 0.25, 3.03, 3.04, 5.0]),
    admission=st.sampled_from(Admission),
    liveness=st.sampled_from(Liveness),
    scheduling=st.sampled_from(Scheduling),
    health=st.builds(NodeHealth, conditions=st.builds(Conditions, load=st.sampled_from(Condition))),
)


def demanding(query: NodeQuery) -> NodeQuery:
    """The same query: no capability demanded and no demand of capabilities are one."""
    plain = {**vars(query)}
    if query.min_capabilities == NodeCapabilities():
        plain["min_capabilities"] = None
    return NodeQuery(**plain)


def test_each_condition_is_a_field_and_each_field_a_condition_or_part_of_the_page() -> None:
    of_rows = {row.field for row in CONDITIONS}
    assert len(of_rows) == len(CONDITIONS)
    assert {item.name for item in fields(NodeQuery)} == of_rows | {"order", "seed", "limit", "after"}
    unasked = NodeQuery()
    for row in CONDITIONS:
        assert getattr(unasked, row.field) == row.default, row.field
        assert row.from_parameters({}) == row.default, row.field
    assert list(unasked.conditions()) == []
    assert unasked.tags is NO_TAGS


def test_the_index_has_a_method_for_each_condition_that_it_holds_and_for_no_other() -> None:
    assert BitmapIndex.NARROWED_BY.keys() == {row.field for row in CONDITIONS if row.narrows_index}


def test_every_parameter_has_a_name_of_its_own_and_words_for_people() -> None:
    assert len(set(PARAMETER_NAMES)) == len(PARAMETER_NAMES)
    for row in CONDITIONS:
        for parameter in row.parameters:
            assert parameter.help, parameter.name
            assert not parameter.help.endswith("."), parameter.name


@settings(max_examples=300, deadline=None)
@given(query=queries)
def test_a_query_comes_back_from_a_url_as_it_went(query: NodeQuery) -> None:
    text = parameters_to_text(query)
    assert set(text) <= set(PARAMETER_NAMES)
    back = msgspec.convert(text, Filters, strict=False).query()
    plain = {**vars(demanding(query))}
    if query.order is NodeOrder.REPUTATION:  # it draws nothing, so that its seed does not travel
        plain["seed"] = 0
    assert back == NodeQuery(**plain)


@settings(max_examples=500, deadline=None)
@given(node=nodes, query=queries, uptime=st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_said_to_fail_is_what_keeps_a_node_out(node: Node, query: NodeQuery, uptime: float) -> None:
    found = query.failing(node, uptime)
    assert (not found) == query.matches(node, uptime)
    assert all(item.condition and item.remedy for item in found)


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"min_reputation": "5.1"}, "min_reputation"),
        ({"min_reputation": "nan"}, "min_reputation"),
        ({"min_reputation": "null"}, "min_reputation"),
        ({"only_healthy": "perhaps"}, "only_healthy"),
        ({"min_cpu_cores": "1.5"}, "min_cpu_cores"),
        ({"min_cpu_cores": "65537"}, "min_cpu_cores"),
        ({"min_memory_gb": "-1"}, "min_memory_gb"),
        ({"gpu_count": "257"}, "gpu_count"),
        ({"gpu_vendor": "x" * 129}, "gpu_vendor"),
        ({"wallet": "x" * 129}, "wallet"),
        ({"order": "best"}, "order"),
        ({"seed": "-1"}, "seed"),
        ({"min_uptime_probability": "1.01"}, "min_uptime_probability"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_by_name(given_: dict[str, Any], field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        msgspec.convert(given_, Filters, strict=False)


def test_a_parameter_that_is_absent_demands_nothing_and_one_at_zero_neither() -> None:
    assert msgspec.convert({}, Filters).query() == NodeQuery()
    zeros = {"min_reputation": "0", "only_healthy": "false", "min_cpu_cores": "0", "gpu": "false", "gpu_count": "0"}
    assert (
        msgspec.convert({**zeros, "gpu_vendor": "", "min_memory_gb": "0"}, Filters, strict=False).query() == NodeQuery()
    )
    assert msgspec.convert({"wallet": ""}, Filters).query() == NodeQuery(wallet_address="")


@pytest.mark.parametrize("tag", ["zone", "=a", ""])
def test_a_tag_that_is_none_is_refused(tag: str) -> None:
    with pytest.raises(ValidationError, match="tag"):
        NodeQuery.from_parameters({"tag": [tag]})


@pytest.mark.parametrize("name", ["list", "explain"])
def test_the_command_line_offers_every_condition_with_the_same_words(name: str) -> None:
    command = nodes_command.commands[name]
    offered = {option.name: option for option in command.params if isinstance(option, click.Option)}
    wanted = [parameter for row in CONDITIONS for parameter in row.parameters]
    for parameter in [*wanted, *(ORDER_PARAMETERS if name == "list" else ())]:
        option = offered[parameter.name]
        assert option.opts == [f"--{parameter.option or parameter.name.replace('_', '-')}"]
        assert option.help == f"{parameter.help}."
        assert option.multiple == parameter.many
